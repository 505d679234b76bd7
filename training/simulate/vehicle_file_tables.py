"""The tables and keys of a vehicle file, and which values they take."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from training.simulate.vehicle import Collection, Layout, Role, SendType

__all__ = ["EcuTable", "ModeTable", "PduTable", "SignalTable", "SocketTable", "VehicleFile", "VehicleTable"]

Name = Annotated[str, Meta(min_length=1)]
Port = Annotated[int, Meta(ge=1, le=65_535)]
# The means of exponential distributions stay below 2^36 ns.
Mean = Annotated[float, Meta(gt=0, le=68)]
CycleMs = Annotated[float, Meta(gt=0, le=3_600_000)]
LatencyMs = Annotated[float, Meta(ge=0, le=10_000)]
Byte = Annotated[int, Meta(ge=0, le=255)]


class VehicleTable(Struct, forbid_unknown_fields=True):
    """`[vehicle]`."""

    name: Name = "vehicle"
    source: Name = "ETH1"


class EcuTable(Struct, forbid_unknown_fields=True):
    """`[[ecu]]`, a sender."""

    name: Name
    node: Annotated[int, Meta(ge=1, le=254)] | None = None
    mac: Name | None = None
    raster_ms: Annotated[float, Meta(ge=0.5, le=1_000)] = 5.0
    anchor_ms: Annotated[float, Meta(ge=0, le=1_000)] | None = None
    drift_ppm: Annotated[float, Meta(ge=-10_000, le=10_000)] | None = None
    jitter_us: Annotated[float, Meta(ge=0, le=100_000)] | None = None
    gap_us: Annotated[float, Meta(ge=0, le=10_000)] | None = None
    gateway: bool = False
    wake_delay_ms: Annotated[float, Meta(ge=0, le=300)] | None = None
    start_delay_ms: Annotated[float, Meta(ge=80, le=1_500)] | None = None


class SocketTable(Struct, forbid_unknown_fields=True):
    """`[[socket]]`, a flow from one ECU to one destination."""

    name: Name | None = None
    ecu: Name | None = None
    vlan: Annotated[int, Meta(ge=0, le=4_094)] | None = None
    source: Name | None = None
    source_port: Port | None = None
    destination: Name | None = None
    destination_port: Port | None = None
    layout: Layout = "soad"
    collect_ms: Annotated[float, Meta(ge=0, le=1_000)] = 0.0
    collection: Collection = "queued"


class ModeTable(Struct, forbid_unknown_fields=True):
    """`[[mode]]`, something that is active now and then."""

    name: Name
    active_s: Mean = 10.0
    idle_s: Mean = 30.0


class SignalTable(Struct, forbid_unknown_fields=True):
    """A signal of a PDU, `{ byte, step_ms, amplitude, offset }`."""

    byte: Annotated[int, Meta(ge=0)]
    step_ms: CycleMs
    amplitude: Annotated[int, Meta(ge=1, le=255)]
    offset: Byte


class PduTable(Struct, forbid_unknown_fields=True):
    """`[[pdu]]`, what an ECU sends."""

    name: Name
    id: Annotated[int, Meta(ge=0, le=0xFFFFFFFF)] | None = None
    ecu: Name | None = None
    sockets: list[Name] | None = None
    role: Role = "com"
    send_type: SendType | None = None
    cycle_ms: CycleMs | None = None
    fast_cycle_ms: CycleMs | None = None
    phase_ms: Annotated[float, Meta(ge=0, le=3_600_000)] | None = None
    mode: Name | None = None
    announces: bool = False
    group: int | None = None
    forwarded: bool = False
    trigger: bool | None = None
    needs_ignition: bool = False
    stop_delay_ms: Annotated[float, Meta(ge=100, le=5_000)] = 1_000.0
    event_interval_ms: Annotated[float, Meta(gt=0, le=68_000)] | None = None
    repetitions: Annotated[int, Meta(ge=0, le=100)] | None = None
    repetition_ms: CycleMs | None = None
    replies_to: Name | None = None
    latency_ms: tuple[LatencyMs, LatencyMs] | None = None
    length: Annotated[int, Meta(ge=8, le=1_400, multiple_of=2)] | None = None
    constant: str | None = None
    signals: list[SignalTable] | None = None


class VehicleFile(Struct, forbid_unknown_fields=True):
    """A whole file."""

    ecu: list[EcuTable] = []
    socket: list[SocketTable] = []
    mode: list[ModeTable] = []
    pdu: list[PduTable] = []
    vehicle: VehicleTable = msgspec.field(default_factory=VehicleTable)
