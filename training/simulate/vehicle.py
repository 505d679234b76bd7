"""What a vehicle is: its ECUs, and the PDUs that they send."""

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "DESTINATION",
    "DESTINATION_PORT",
    "SIGNALS",
    "SOURCE_PORT",
    "VLAN",
    "EcuModel",
    "PduModel",
    "SendType",
    "Vehicle",
]

SendType = Literal["cyclic", "mixed", "event"]

VLAN = 3
SOURCE_PORT = 42994
DESTINATION = "ff14::3:7f"
DESTINATION_PORT = 42557
SIGNALS = 3


@dataclass(frozen=True, slots=True)
class EcuModel:
    """A sender: one node with one clock and one communication task.

    Attributes:
        node: last part of its IPv6 address and MAC address.
        address: its IPv6 address.
        mac: its MAC address.
        raster_ns: period of the task that sends, the COM main function.
        anchor_ns: time of the task's first activation after the start of the trace.
        drift_ppb: how slow its clock is, in parts per billion; a positive drift stretches the cycles.
        jitter_sigma_ns: sigma of the half-normal delay of a task activation.
        gap_ns: least time between two PDUs that are sent in one activation.
        collects: whether the PDUs of an activation share datagrams (nPDU collection).
    """

    node: int
    address: str
    mac: str
    raster_ns: int
    anchor_ns: int
    drift_ppb: int
    jitter_sigma_ns: int
    gap_ns: int
    collects: bool


@dataclass(frozen=True, slots=True)
class PduModel:
    """A PDU and when it is sent.

    Attributes:
        pdu_id: header id, unique in the vehicle.
        name: unique in the vehicle.
        ecu: index of its sender in `Vehicle.ecus`.
        send_type: `cyclic`, `mixed` (cyclic, and on change with repetitions) or `event` (bursts alone).
        cycle_ns: nominal cycle, a multiple of the sender's raster; None for events.
        phase: first activation in which it is due, less than its period in activations.
        forwarded: it comes from another bus and is sent alone, up to 2 ms after the activation.
        event_interval_ns: mean time between changes or bursts; 0 for cyclic PDUs.
        repetitions: sends after the first of a change, mean number of them for a burst; 0 for cyclic PDUs.
        repetition_activations: distance of the repetitions in activations.
        length: payload bytes, even.
        constant: the payload before counter and signals are filled in, `length` bytes.
        signals: (byte, step_ns, amplitude, offset) of each of `SIGNALS` signals that slowly go up and down.
    """

    pdu_id: int
    name: str
    ecu: int
    send_type: SendType
    cycle_ns: int | None
    phase: int
    forwarded: bool
    event_interval_ns: int
    repetitions: int
    repetition_activations: int
    length: int
    constant: bytes
    signals: tuple[tuple[int, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Vehicle:
    """All senders and PDUs; PDUs of one ECU are in the order in which its task sends them."""

    preset: str
    seed: int
    ecus: tuple[EcuModel, ...]
    pdus: tuple[PduModel, ...]

    def pdus_of(self, ecu: int) -> list[int]:
        """Indices of the PDUs which `ecu` sends."""
        return [index for index, pdu in enumerate(self.pdus) if pdu.ecu == ecu]
