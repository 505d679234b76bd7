"""What a vehicle is: its ECUs, their sockets, and the PDUs that they send."""

from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "SIGNALS",
    "Collection",
    "EcuModel",
    "Layout",
    "ModeModel",
    "PduModel",
    "Role",
    "SendType",
    "SocketModel",
    "Vehicle",
]

SendType = Literal["cyclic", "mixed", "mode", "event"]
Role = Literal["com", "request", "reply", "nm", "sd", "sync", "follow_up"]
Layout = Literal["soad", "none", "gptp"]
Collection = Literal["queued", "last_is_best"]

SIGNALS = 3


@dataclass(frozen=True, slots=True)
class EcuModel:
    """A sender: one node with one clock and one communication task.

    Attributes:
        name: unique in the vehicle.
        node: last part of its addresses, its NM node id; unique, 1 to 254.
        mac: its MAC address.
        raster_ns: period of the task that sends, the COM main function.
        anchor_ns: time of activation 0 of the task, from the start of the trace; less than the raster.
        drift_ppb: how slow its clock is, in parts per billion; a positive drift stretches the cycles. 0
            for an ECU that is synchronised by gPTP.
        jitter_sigma_ns: sigma of the half-normal delay of a task activation.
        gap_ns: least time between two PDUs that are sent in one activation.
        gateway: it forwards the PDUs of other buses, and PDUs of other ECUs to other VLANs.
        wake_delay_ns: from the waking of the vehicle to its first NM message, 0 to 300 ms.
        start_delay_ns: from there to its first PDU, 80 to 1500 ms.
    """

    name: str
    node: int
    mac: str
    raster_ns: int
    anchor_ns: int
    drift_ppb: int
    jitter_sigma_ns: int
    gap_ns: int
    gateway: bool
    wake_delay_ns: int
    start_delay_ns: int


@dataclass(frozen=True, slots=True)
class SocketModel:
    """A flow: one UDP socket connection of one sender to one destination, or gPTP's frames of one ECU.

    Attributes:
        ecu: index of the sender in `Vehicle.ecus`.
        vlan: VLAN id; None for untagged frames.
        source: the sender's IPv6 or IPv4 address; empty for gPTP.
        source_port: 0 for gPTP.
        destination: unicast or multicast address of the same family.
        destination_port: 0 for gPTP.
        layout: `soad` (id, length and payload of each PDU; SOME/IP has the same shape), `none` (the datagram
            is one PDU), `gptp` (no IP: the frame's payload is the message).
        collect_ns: how long a PDU waits for others to share its datagram (nPDU collection); 0: it does not.
        collection: whether a PDU that is sent again while it waits takes the place of the earlier one.
    """

    ecu: int
    vlan: int | None
    source: str
    source_port: int
    destination: str
    destination_port: int
    layout: Layout = "soad"
    collect_ns: int = 0
    collection: Collection = "queued"


@dataclass(frozen=True, slots=True)
class ModeModel:
    """Something that is now and then active while the vehicle drives, such as lane keeping.

    Attributes:
        name: unique in the vehicle.
        active_ns: mean time for which it is active.
        idle_ns: mean time between.
    """

    name: str
    active_ns: int
    idle_ns: int


@dataclass(frozen=True, slots=True)
class PduModel:
    """A PDU, when it is sent, and to whom.

    Attributes:
        pdu_id: header id; unique on each socket: a reply has its request's, and all service offers have one.
            0 where its sockets have no headers.
        name: unique in the vehicle.
        ecu: index of the ECU whose task sends it. (Copies by a gateway are in `sockets`.)
        sockets: indices of the sockets on which it goes out, one to four. Where the sender of a socket
            is another ECU, that one is a gateway and sends its copy up to 2 ms later.
        role: `com` for ordinary PDUs, `request` and `reply` of a service's method, `nm` network management,
            `sd` service offers, `sync` and `follow_up` of gPTP.
        send_type: `cyclic`, `mixed` (cyclic, and on change with repetitions), `mode` (cyclic, with
            `fast_cycle_ns` while `mode` is active) or `event` (bursts alone, requests, replies).
        cycle_ns: nominal cycle, a multiple of the sender's raster; None for events.
        fast_cycle_ns: cycle while `mode` is active, a multiple of the raster; None but for `mode`.
        mode: index of the mode which switches its cycle, or which it announces; None for neither.
        announces: it is sent on change when `mode` changes, and carries the new state as its value.
        phase: activation in which it is first due, less than its cycle in activations.
        group: PDUs of one ECU with the same number here have cycle and phase in common and follow each
            other in the ECU's order: they are sent together. None: on its own.
        forwarded: it comes from another bus through the gateway `ecu`: its cycle follows another clock than
            the ECU's, it takes no place in the task's order and is sent up to 2 ms late.
        trigger: it does not wait for others in nPDU collection: what is collected leaves with it at once.
        needs_ignition: it is not sent before ignition is on.
        stop_delay_ns: how long it is still sent after ignition was turned off, 0.1 to 5 s.
        event_interval_ns: mean time between changes, bursts or requests; 0 for cyclic PDUs, replies and PDUs
            that announce a mode.
        repetitions: sends after the first of a change, mean number of them for a burst; 0 otherwise.
        repetition_activations: distance of the repetitions in activations.
        replies_to: index of the request to which it is the reply; None otherwise.
        latency_ns: shortest and longest time from request to reply.
        length: payload bytes; even.
        constant: the payload before what changes is filled in, `length` bytes.
        signals: (byte, step_ns, amplitude, offset) of each of `SIGNALS` signals that slowly go up and down;
            empty for other roles than `com`.
    """

    pdu_id: int
    name: str
    ecu: int
    sockets: tuple[int, ...]
    send_type: SendType
    cycle_ns: int | None
    length: int
    constant: bytes
    role: Role = "com"
    fast_cycle_ns: int | None = None
    mode: int | None = None
    announces: bool = False
    phase: int = 0
    group: int | None = None
    forwarded: bool = False
    trigger: bool = False
    needs_ignition: bool = False
    stop_delay_ns: int = 1_000_000_000
    event_interval_ns: int = 0
    repetitions: int = 0
    repetition_activations: int = 0
    replies_to: int | None = None
    latency_ns: tuple[int, int] = (0, 0)
    signals: tuple[tuple[int, int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Vehicle:
    """All senders and PDUs; PDUs of one ECU are in the order in which its task sends them.

    Attributes:
        name: what to call it, for instance the preset.
        seed: what it was drawn with.
        ecus: its senders.
        sockets: their sockets.
        pdus: what they send, network management, service discovery and gPTP among them.
        modes: what switches while it drives.
        source: name of the interface on which all of it is captured.
    """

    name: str
    seed: int
    ecus: tuple[EcuModel, ...]
    sockets: tuple[SocketModel, ...]
    pdus: tuple[PduModel, ...]
    modes: tuple[ModeModel, ...] = field(default=())
    source: str = "ETH1"

    def pdus_of(self, ecu: int) -> list[int]:
        """Indices of the PDUs which `ecu` sends."""
        return [index for index, pdu in enumerate(self.pdus) if pdu.ecu == ecu]
