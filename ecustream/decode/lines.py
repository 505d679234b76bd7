"""Turns PDUs into the log's lines: name, delta time, activity state."""

from collections.abc import Mapping

from ecustream.decode.folding import Folding
from ecustream.decode.names import NameTable, unnamed
from ecustream.decode.state import ActivityState, Member
from ecustream.decode.streams import MAX_STREAMS, Clock, Streams
from ecustream.ledger import Ledger
from ecustream.traffic import STATE_NORMAL, Flow, Line, Pdu, Stream

__all__ = ["LineBuilder"]

_Slot = tuple[Stream, Clock, Member | None]
_NO_SLOTS: Mapping[int | None, _Slot] = {}


class LineBuilder:
    """Builds the lines of one run, in the order of the PDUs.

    Every PDU ends here as `lines`, or as `unreadable{too_many_streams}` beyond `MAX_STREAMS` streams; its
    line is entered in the book `lines`. A line that is older than the one before of the same key gets
    delta 0 and the note `time_backwards`; see `ecustream.decode.streams` for keys and clocks.

    Args:
        ledger: where PDUs end and lines are entered, a batch at a time.
        names: names of PDU ids; unknown ids are named `PDU_0x…` and sockets without ids `UDP_…`.
        key: what "the same PDU" means, `stream` or `name`.
        state: the activity state machine; None writes normal operation on every line.

    Raises:
        ConfigError: there is no such key mode.
    """

    def __init__(
        self,
        ledger: Ledger,
        names: NameTable | None = None,
        key: str = "stream",
        state: ActivityState | None = None,
    ) -> None:
        self._ledger = ledger
        self._names = names if names is not None else NameTable([])
        self._streams = Streams(key)
        self._folding = Folding()
        self._state = state
        self._slots: dict[Flow, dict[int | None, _Slot]] = {}
        self._slot_count = 0
        self._count = 0

    def build(self, pdus: list[Pdu]) -> list[Line]:
        """One line for each PDU, in order."""
        out: list[Line] = []
        append = out.append
        slots = self._slots
        state = self._state
        code = STATE_NORMAL if state is None else state.state
        steady_from_ns = steady_until_ns = 0
        number = self._count
        flow: Flow | None = None
        of_flow: Mapping[int | None, _Slot] = _NO_SLOTS
        for pdu in pdus:
            # PDUs of a datagram share the object; to hash a flow takes as long as all else here.
            if pdu.flow is not flow:
                flow = pdu.flow
                of_flow = slots.get(flow, _NO_SLOTS)
            slot = of_flow.get(pdu.pdu_id)
            if slot is None:
                slot = self._open(pdu)
                if slot is None:
                    continue
                of_flow = slots.get(flow, _NO_SLOTS)
            stream, clock, member = slot
            time_ns = pdu.time_ns
            last_ns = clock.last_ns
            if last_ns is None:
                delta_ns = None
                clock.last_ns = time_ns
            else:
                delta_ns = time_ns - last_ns
                if delta_ns >= 0:
                    clock.last_ns = time_ns
                else:
                    delta_ns = clock.back(time_ns, self._ledger)
            if state is not None and member is not None:
                if member.is_read or not steady_from_ns <= time_ns < steady_until_ns:
                    code = state.advance(member, time_ns, pdu.payload)
                    steady_from_ns, steady_until_ns = state.steady_ns
                else:
                    member.last_ns = time_ns
            append(Line(number, pdu.frame, time_ns, stream, code, delta_ns))
            number += 1
        self._count = number
        self._ledger.end("pdus", "lines", len(out))
        self._ledger.enter("lines", len(out))
        return out

    @property
    def count(self) -> int:
        """Lines built so far; the number of the next one."""
        return self._count

    def forget(self) -> None:
        """The next PDUs do not follow those before: the next line of each key has no delta time.

        The activity state notices by itself that time did not go on evenly.
        """
        self._streams.forget()

    def _open(self, pdu: Pdu) -> _Slot | None:
        flow, pdu_id = pdu.flow, pdu.pdu_id
        name = self._names.name_of(flow, pdu_id)
        if not self._streams.has(name, flow.source, *flow[2:], pdu_id):
            named = name != unnamed(flow, pdu_id)
            flow, pdu_id = self._folding.fold(flow, pdu_id, named=named)
            name = name if named else unnamed(flow, pdu_id)
        found = self._streams.open(name, flow.source, *flow[2:], pdu_id)
        if found is None:
            self._ledger.end("pdus", "unreadable", reason="too_many_streams")
            return None
        stream, clock = found
        member = self._state.enrol(stream) if self._state is not None else None
        # Streams on several VLANs share a Stream, so there may be more slots than streams.
        if self._slot_count >= 2 * MAX_STREAMS:
            self._slots.clear()
            self._slot_count = 0
        slot = self._slots.setdefault(flow, {})[pdu.pdu_id] = (stream, clock, member)
        self._slot_count += 1
        return slot
