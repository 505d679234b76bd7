"""Rest-bus simulator: a vehicle's cyclic traffic and its faults in virtual time, as capture and labels.

```python
vehicle = draw_vehicle("bench")
for batch in simulate(vehicle, seconds=60, seed=1, faults="light"):
    ...  # batch.time_ns, batch.pdu, batch.payload, batch.labels
write_trace(vehicle, "bench.pcapng.gz", seconds=60, seed=1, faults="light")
```

`draw_vehicle` decides what the vehicle is (PDUs, ids, names, addresses, cycles, phases, tasks, clocks),
`seed` what happens on it (jitter, on-change events, faults): traces of one vehicle with different seeds are
training and test traffic. Traces of one seed with and without faults differ in the faults alone.
"""

from training.simulate.draw import PRESETS, draw_vehicle
from training.simulate.faults import FAULT_LEVELS, Label
from training.simulate.simulation import START_NS, Batch, simulate
from training.simulate.vehicle import EcuModel, PduModel, Vehicle
from training.simulate.writer import TraceSummary, write_trace

__all__ = [
    "FAULT_LEVELS",
    "PRESETS",
    "START_NS",
    "Batch",
    "EcuModel",
    "Label",
    "PduModel",
    "TraceSummary",
    "Vehicle",
    "draw_vehicle",
    "simulate",
    "write_trace",
]
