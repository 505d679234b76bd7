"""Make the PDUs of a vehicle file's tables."""

from dataclasses import replace

from training.simulate.conventions import GPTP_CYCLE_NS, GPTP_LENGTHS, SD_ID, is_trigger
from training.simulate.vehicle import EcuModel, PduModel, Role, SendType, SocketModel
from training.simulate.vehicle_file_contents import fill_contents
from training.simulate.vehicle_file_errors import RefusedError
from training.simulate.vehicle_file_tables import PduTable, VehicleFile
from training.simulate.vehicle_file_values import MS, S, activations, index_of, to_ns

__all__ = ["DEFAULT_IDS", "PduBuilder"]

DEFAULT_CYCLES_NS: dict[Role, int] = {
    "nm": 500 * MS,
    "sd": 1000 * MS,
    "sync": GPTP_CYCLE_NS,
    "follow_up": GPTP_CYCLE_NS,
}
DEFAULT_IDS: dict[Role, int] = {"nm": 0, "sd": SD_ID, "sync": 0, "follow_up": 0}
DEFAULT_INTERVALS_NS: dict[Role, int] = {"com": 5 * S, "request": 1 * S}
DEFAULT_REPETITIONS = 3
DEFAULT_REPETITION_NS = 20 * MS
DEFAULT_LATENCY_NS = (1 * MS, 10 * MS)
MOST_SOCKETS = 4


class PduBuilder:
    """Makes one PDU after the other.

    Args:
        file: its tables.
        seed: draws what they leave open.
        ecus: the vehicle's ECUs.
        sockets: its sockets.
        socket_names: what these are called.
    """

    def __init__(
        self,
        file: VehicleFile,
        seed: int,
        ecus: list[EcuModel],
        sockets: list[SocketModel],
        socket_names: list[str],
    ) -> None:
        self._tables = file.pdu
        self._modes = [table.name for table in file.mode]
        self._seed = seed
        self._ecus = ecus
        self._sockets = sockets
        self._socket_names = socket_names

    def pdu(self, index: int) -> PduModel:
        """The PDU of the table `index`; what it offers, as service discovery, is still missing."""
        table, key = self._tables[index], f"pdu[{index}]"
        ecu_names = [ecu.name for ecu in self._ecus]
        if table.ecu is None and len(ecu_names) > 1:
            raise RefusedError(f"{key}.ecu", f"is missing; there are {', '.join(ecu_names)}")
        at = 0 if table.ecu is None else index_of(table.ecu, ecu_names, f"{key}.ecu", "ecu")
        ecu = self._ecus[at]
        send_type = _send_type(table, key)
        cycle_ns, fast_cycle_ns = _cycles(table, send_type, ecu, key)
        sockets = self._sockets_of(table, at, key)
        pdu = PduModel(
            pdu_id=self._id(table, sockets, key),
            name=table.name,
            ecu=at,
            sockets=sockets,
            send_type=send_type,
            cycle_ns=cycle_ns,
            length=0,
            constant=b"",
            role=table.role,
            fast_cycle_ns=fast_cycle_ns,
            mode=None if table.mode is None else index_of(table.mode, self._modes, f"{key}.mode", "mode"),
            announces=table.announces,
            group=table.group,
            forwarded=table.forwarded,
            trigger=is_trigger(table.role, cycle_ns) if table.trigger is None else table.trigger,
            needs_ignition=table.needs_ignition,
            stop_delay_ns=to_ns(table.stop_delay_ms, MS),
        )
        _check_kind(pdu, ecu, key)
        pdu = _with_events(pdu, table, ecu, key)
        pdu = self._with_reply(pdu, table, key)
        return fill_contents(pdu, table, ecu, self._seed, key)

    def _id(self, table: PduTable, sockets: tuple[int, ...], key: str) -> int:
        if table.id is not None:
            return table.id
        has_header = any(self._sockets[socket].layout == "soad" for socket in sockets)
        if has_header and table.role != "sd":
            raise RefusedError(f"{key}.id", "is missing; it is in the PDU's header on sockets of layout soad")
        return DEFAULT_IDS.get(table.role, 0)

    def _sockets_of(self, table: PduTable, at: int, key: str) -> tuple[int, ...]:
        is_gptp = table.role in GPTP_LENGTHS
        key = f"{key}.sockets"
        if table.sockets is None:
            return (self._only_socket(at, is_gptp, key),)
        found = tuple(index_of(name, self._socket_names, key, "socket") for name in table.sockets)
        if not 1 <= len(found) <= MOST_SOCKETS or len(set(found)) < len(found):
            raise RefusedError(key, "must be one to four different sockets")
        for index in found:
            socket, name = self._sockets[index], self._socket_names[index]
            sender = self._ecus[socket.ecu]
            if socket.ecu != at and not sender.gateway:
                raise RefusedError(key, f"{name} is a socket of {sender.name}, which is no gateway")
            if (socket.layout == "gptp") != is_gptp:
                only = "the role sync or follow_up" if socket.layout == "gptp" else "other roles"
                raise RefusedError(key, f"{name} has the layout {socket.layout}, which is for {only}")
        return found

    def _only_socket(self, ecu: int, is_gptp: bool, key: str) -> int:
        own = [
            index
            for index, socket in enumerate(self._sockets)
            if socket.ecu == ecu and (socket.layout == "gptp") == is_gptp
        ]
        name, layout = self._ecus[ecu].name, "gptp" if is_gptp else "soad or none"
        if not own:
            raise RefusedError(key, f"{name} has no socket of layout {layout}")
        if len(own) > 1:
            names = ", ".join(self._socket_names[index] for index in own)
            raise RefusedError(key, f"is missing; {name} has several: {names}")
        return own[0]

    def _with_reply(self, pdu: PduModel, table: PduTable, key: str) -> PduModel:
        """What it replies to and when."""
        if pdu.role != "reply":
            for name, value in (("replies_to", table.replies_to), ("latency_ms", table.latency_ms)):
                if value is not None:
                    raise RefusedError(f"{key}.{name}", "is for PDUs of the role reply")
            return pdu
        requests = [other.name for other in self._tables if other.role == "request"]
        if table.replies_to is None:
            raise RefusedError(f"{key}.replies_to", "is missing; it names a PDU of the role request")
        index_of(table.replies_to, requests, f"{key}.replies_to", "request")
        shortest_ns, longest_ns = DEFAULT_LATENCY_NS
        if table.latency_ms is not None:
            shortest_ns, longest_ns = to_ns(table.latency_ms[0], MS), to_ns(table.latency_ms[1], MS)
        if shortest_ns > longest_ns:
            raise RefusedError(f"{key}.latency_ms", "the longest one is less than the shortest one")
        names = [other.name for other in self._tables]
        return replace(pdu, replies_to=names.index(table.replies_to), latency_ns=(shortest_ns, longest_ns))


def _send_type(table: PduTable, key: str) -> SendType:
    """The send type, and what it is where it is left open."""
    if table.role != "com":
        only: SendType = "event" if table.role in ("request", "reply") else "cyclic"
        if table.send_type not in (None, only):
            raise RefusedError(f"{key}.send_type", f"must be {only} for the role {table.role}")
        return only
    if table.send_type is not None:
        return table.send_type
    if table.fast_cycle_ms is not None:
        return "mode"
    if table.announces or table.event_interval_ms is not None:
        return "event" if table.cycle_ms is None else "mixed"
    return "cyclic"


def _cycles(table: PduTable, send_type: SendType, ecu: EcuModel, key: str) -> tuple[int | None, int | None]:
    default_ns = DEFAULT_CYCLES_NS.get(table.role)
    cycle_ms = default_ns / MS if table.cycle_ms is None and default_ns else table.cycle_ms
    for name, value, is_needed in (
        ("cycle_ms", cycle_ms, send_type != "event"),
        ("fast_cycle_ms", table.fast_cycle_ms, send_type == "mode"),
    ):
        if value is None and is_needed:
            raise RefusedError(f"{key}.{name}", f"is missing; the send_type is {send_type}")
        if value is not None and not is_needed:
            raise RefusedError(f"{key}.{name}", f"is not for the send_type {send_type}")
        if value is not None:
            activations(value, ecu, f"{key}.{name}")
    fast_cycle_ns = None if table.fast_cycle_ms is None else to_ns(table.fast_cycle_ms, MS)
    return None if cycle_ms is None else to_ns(cycle_ms, MS), fast_cycle_ns


def _check_kind(pdu: PduModel, ecu: EcuModel, key: str) -> None:
    """Refuse attributes that do not go together."""
    if pdu.role in ("request", "reply") and len(pdu.sockets) > 1:
        raise RefusedError(f"{key}.sockets", f"must be one for a {pdu.role}")
    if pdu.announces and pdu.send_type != "mixed":
        raise RefusedError(f"{key}.announces", f"is for the send_type mixed, and this is {pdu.send_type}")
    uses_mode = pdu.announces or pdu.send_type == "mode"
    if pdu.mode is None and uses_mode:
        raise RefusedError(
            f"{key}.mode", f"is missing; {'announces' if pdu.announces else 'fast_cycle_ms'} needs one"
        )
    if pdu.mode is not None and not uses_mode:
        raise RefusedError(f"{key}.mode", "needs fast_cycle_ms, or announces = true, which use it")
    if pdu.forwarded and not (ecu.gateway and pdu.send_type == "cyclic" and pdu.group is None):
        raise RefusedError(f"{key}.forwarded", "is for cyclic PDUs of a gateway that are in no group")
    if pdu.group is not None and pdu.cycle_ns is None:
        raise RefusedError(f"{key}.group", "is for PDUs that have a cycle")


def _with_events(pdu: PduModel, table: PduTable, ecu: EcuModel, key: str) -> PduModel:
    """Changes, bursts and requests."""
    repeats = pdu.role == "com" and pdu.send_type in ("mixed", "event")
    is_random = (repeats and not pdu.announces) or pdu.role == "request"
    if not repeats:
        for name, value in (("repetitions", table.repetitions), ("repetition_ms", table.repetition_ms)):
            if value is not None:
                raise RefusedError(f"{key}.{name}", "is for PDUs of COM with the send_type mixed or event")
    if table.event_interval_ms is not None and not is_random:
        what = f"the send_type {pdu.send_type}" if pdu.role == "com" else f"the role {pdu.role}"
        what = "PDUs that announce a mode" if pdu.announces else what
        raise RefusedError(f"{key}.event_interval_ms", f"is not for {what}")
    interval_ns = 0
    if is_random:
        given_ms = table.event_interval_ms
        interval_ns = DEFAULT_INTERVALS_NS[pdu.role] if given_ms is None else to_ns(given_ms, MS)
        if interval_ns == 0:
            raise RefusedError(f"{key}.event_interval_ms", f"{given_ms:g} ms is less than a nanosecond")
    if not repeats:
        return replace(pdu, event_interval_ns=interval_ns)
    distance = max(1, DEFAULT_REPETITION_NS // ecu.raster_ns)
    if table.repetition_ms is not None:
        distance = activations(table.repetition_ms, ecu, f"{key}.repetition_ms")
    return replace(
        pdu,
        event_interval_ns=interval_ns,
        repetitions=DEFAULT_REPETITIONS if table.repetitions is None else table.repetitions,
        repetition_activations=distance,
    )
