"""Small vehicles made by hand, each PDU of which shows one thing."""

from dataclasses import replace
from typing import Any

from training.simulate.vehicle import EcuModel, ModeModel, PduModel, SocketModel, Vehicle

__all__ = ["MS", "SECOND", "cyclic", "ecu", "full_vehicle", "plain_vehicle", "vehicle_of"]

MS = 1_000_000
SECOND = 1_000 * MS


def ecu(number: int = 0, **changes: Any) -> EcuModel:
    """An ECU with a 5 ms task, 20 µs jitter and 20 µs gaps; keywords change what is needed."""
    model = EcuModel(
        name=f"ECU{number}",
        node=0x10 + number,
        mac=f"02:00:00:00:00:{0x10 + number:02x}",
        raster_ns=5 * MS,
        anchor_ns=1_234_567 + 100_000 * number,
        drift_ppb=40_000 - 30_000 * number,
        jitter_sigma_ns=20_000,
        gap_ns=20_000,
        gateway=False,
        wake_delay_ns=40 * MS * number,
        start_delay_ns=200 * MS + 150 * MS * number,
    )
    return replace(model, **changes)


def cyclic(name: str, cycle_ms: int | None, ecu: int = 0, **changes: Any) -> PduModel:
    """A cyclic PDU of 8 bytes on the ECU's socket; keywords change what is needed."""
    model = PduModel(
        pdu_id=0,
        name=name,
        ecu=ecu,
        sockets=(ecu,),
        send_type="cyclic",
        cycle_ns=None if cycle_ms is None else cycle_ms * MS,
        length=8,
        constant=bytes(8),
        signals=((3, 100 * MS, 10, 5),) * 3,
    )
    return replace(model, **changes)


def vehicle_of(
    pdus: list[PduModel],
    ecus: list[EcuModel] | None = None,
    modes: list[ModeModel] | None = None,
    seed: int = 0,
) -> Vehicle:
    """A vehicle of these PDUs, with ids, and one SoAd socket an ECU."""
    ecus = ecus or [ecu()]
    sockets = tuple(
        SocketModel(number, 3, f"fd53::{number + 1:x}", 40001, "ff14::1", 40001)
        for number in range(len(ecus))
    )
    numbered = (replace(pdu, pdu_id=0x100 + index) for index, pdu in enumerate(pdus))
    return Vehicle("handmade", seed, tuple(ecus), sockets, tuple(numbered), tuple(modes or ()))


def plain_vehicle(seed: int = 0) -> Vehicle:
    """One ECU with three cyclic PDUs: 10, 20 and 100 ms."""
    return vehicle_of([cyclic("A", 10), cyclic("B", 20, phase=1), cyclic("C", 100, phase=7)], seed=seed)


def full_vehicle(seed: int = 0) -> Vehicle:
    """Two ECUs with PDUs of every role and send type, and two modes."""
    burst: dict[str, Any] = {"send_type": "event", "repetition_activations": 2}
    mixed: dict[str, Any] = {"send_type": "mixed", "repetitions": 3, "repetition_activations": 2}
    pdus = [
        cyclic("NM_10", 500, role="nm", phase=3),
        cyclic("SD_10", 1000, role="sd", phase=11),
        cyclic("Sync", 125, role="sync", phase=4, group=1),
        cyclic("Follow_Up", 125, role="follow_up", phase=4, group=1),
        cyclic("Fast", 10),
        cyclic("Group_A", 50, phase=2, group=2),
        cyclic("Group_B", 50, phase=2, group=2),
        cyclic("Slow", 1000, phase=17),
        cyclic("Ignition", 20, phase=1, needs_ignition=True, stop_delay_ns=1_500 * MS),
        cyclic("Status", 100, phase=5, mode=0, announces=True, **mixed),
        cyclic("Forwarded", 40, phase=3, forwarded=True),
        cyclic("Request", None, role="request", event_interval_ns=400 * MS, send_type="event"),
        cyclic("NM_11", 640, 1, role="nm", phase=9),
        cyclic("Reply", None, 1, role="reply", replies_to=11, latency_ns=(MS, 30 * MS), send_type="event"),
        cyclic("Switched", 1000, 1, phase=33, send_type="mode", mode=0, fast_cycle_ns=20 * MS),
        cyclic("Mixed", 200, 1, phase=8, event_interval_ns=700 * MS, **mixed),
        cyclic("Burst", None, 1, event_interval_ns=600 * MS, repetitions=4, **burst),
        cyclic("Late_Ignition", 100, 1, needs_ignition=True, stop_delay_ns=4_500 * MS),
        cyclic("Plain", 30, 1, phase=1),
    ]
    ecus = [ecu(0, gateway=True), ecu(1)]
    modes = [ModeModel("lane keeping", 3 * SECOND, 4 * SECOND), ModeModel("wiping", 2 * SECOND, 9 * SECOND)]
    return vehicle_of(pdus, ecus, modes, seed)
