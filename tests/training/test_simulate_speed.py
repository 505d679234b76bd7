"""How fast the simulator is; run with `pytest --benchmark-only`."""

from typing import Any

import pytest

from training.simulate import Simulation, draw_vehicle
from training.simulate.records import RecordEncoder

SECONDS = 10


@pytest.mark.parametrize(("preset", "faults"), [("hcp", "heavy"), ("large", "none")])
def test_simulated_bytes(benchmark: Any, preset: str, faults: str) -> None:
    """Ten seconds of traffic from nothing to the bytes of a capture; `extra_info` has the PDUs in it."""
    vehicle = draw_vehicle(preset)

    def simulate() -> int:
        simulation = Simulation(vehicle, SECONDS, 1, faults)
        encoder = RecordEncoder(vehicle, simulation.sockets, "pcapng")
        pdus = 0
        for batch in simulation.batches():
            encoder.records(batch)
            pdus += len(batch.pdu)
        return pdus

    benchmark.extra_info["pdus"] = benchmark.pedantic(simulate, rounds=3)
