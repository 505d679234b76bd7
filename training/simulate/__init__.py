"""Rest-bus simulator: a vehicle's traffic and its faults in virtual time, as capture and labels, or live.

```python
vehicle = draw_vehicle("hcp", seed=3)
write_trace(vehicle, Path("hcp.pcapng.gz"), seconds=60, drive=1, faults="light")
for batch in Simulation(vehicle, 60, drive=2, scenario="day").batches():
    ...  # batch.time_ns, batch.pdu, batch.payload, batch.labels, batch.context
```

`draw_vehicle` decides what the vehicle is (ECUs, sockets, PDUs, cycles, tasks, clocks), `drive` what happens
on it (jitter, events, modes, faults): drives of one vehicle are its training and test traffic. Drives of one
number with and without faults differ in what the faults touch alone.
"""

from training.simulate.batch import START_NS, Batch
from training.simulate.draw import PRESETS, draw_vehicle
from training.simulate.simulation import Simulation
from training.simulate.vehicle import EcuModel, PduModel, SocketModel, Vehicle
from training.simulate.vehicle_file import load_vehicle
from training.simulate.writer import TraceSummary, write_trace

__all__ = [
    "PRESETS",
    "START_NS",
    "Batch",
    "EcuModel",
    "PduModel",
    "Simulation",
    "SocketModel",
    "TraceSummary",
    "Vehicle",
    "draw_vehicle",
    "load_vehicle",
    "write_trace",
]
