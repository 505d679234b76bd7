"""The activity state of a line: from a mapped PDU, else from UDP-NM, else from the PDU population."""

from collections.abc import Mapping
from typing import NamedTuple

from ecustream.decode.nm import NetworkManagement
from ecustream.decode.population import Member, Population
from ecustream.errors import ConfigError
from ecustream.traffic import ACTIVITY_STATES, STATE_NORMAL, Stream

__all__ = ["ActivityState", "MappedPdu", "Member"]

_INTERVAL_NS = 100_000_000
_CLOCK_STEP_NS = 1_000_000_000


class MappedPdu(NamedTuple):
    """A PDU whose payload tells the state.

    The signal is `payload[byte] & mask`, shifted down so that the lowest bit of the mask is its bit 0;
    `values` maps it to an activity state. Values that are not mapped leave the state as it is.
    """

    name: str
    byte: int
    mask: int
    values: Mapping[int, int]


class ActivityState:
    """The state machine that gives each line its state; on capture time only, so a replay repeats it.

    The first source that has something to say counts: the mapped PDU, from its first occurrence; UDP-NM,
    from its first message; the population of cyclic PDUs. With none of them it is normal operation.

    Attributes:
        state: the state of the last line.
        steady_ns: from and until when the state stays: there a line whose payload is not read changes
            nothing but its member's `last_ns`.

    Args:
        mapped: the PDU that tells the state.
        nm_port: destination port of UDP-NM.
        cycles_ns: cyclic PDUs that are known (from a bundle), stream key to cycle.

    Raises:
        ConfigError: the mapping of `mapped` cannot be.
    """

    def __init__(
        self,
        mapped: MappedPdu | None = None,
        nm_port: int | None = None,
        cycles_ns: Mapping[str, int] | None = None,
    ) -> None:
        if mapped is not None:
            _check_mapping(mapped)
        self.state = STATE_NORMAL
        self._mapped = mapped
        self._mapped_state: int | None = None
        self._nm_port = nm_port
        self._nm = NetworkManagement()
        self._population = Population(cycles_ns or {})
        # Outside of [from, until) something is due: an evaluation, or the clock was set.
        self.steady_ns = (0, 0)
        self._started = False

    def enrol(self, stream: Stream) -> Member:
        """What the state machine has to know of the lines of a stream; give it to `advance`."""
        is_mapped = self._mapped is not None and stream.name == self._mapped.name
        is_nm = stream.dport == self._nm_port
        member = self._population.members.get(stream.key)
        if member is None or is_nm:
            member = Member(node=stream.src if is_nm else None)
        member.mapped = member.mapped or is_mapped
        member.is_read = member.mapped or member.node is not None
        return member

    def advance(self, member: Member, time_ns: int, payload: bytes) -> int:
        """The state of a line of `member` at `time_ns` that carries `payload`."""
        from_ns, until_ns = self.steady_ns
        if not from_ns <= time_ns < until_ns:
            self._tick(time_ns)
        member.last_ns = time_ns
        if member.is_read:
            self._read(member, time_ns, payload)
        return self.state

    def _tick(self, time_ns: int) -> None:
        from_ns, until_ns = self.steady_ns
        if not self._started or time_ns < from_ns:
            self._started = True
            self._nm.restart(time_ns)
            self._population.restart(time_ns)
        elif time_ns - until_ns > self._population.gap_ns:
            self._population.restart(time_ns)
        self.steady_ns = (time_ns - _CLOCK_STEP_NS, time_ns + _INTERVAL_NS)
        self._evaluate(time_ns)

    def _evaluate(self, time_ns: int) -> None:
        if self._mapped_state is not None:
            self.state = self._mapped_state
            return
        state = self._nm.evaluate(time_ns)
        self.state = self._population.evaluate(time_ns) if state is None else state

    def _read(self, member: Member, time_ns: int, payload: bytes) -> None:
        mapped = self._mapped
        if member.mapped and mapped is not None and mapped.byte < len(payload):
            lowest_bit = mapped.mask & -mapped.mask
            value = (payload[mapped.byte] & mapped.mask) // lowest_bit
            self._mapped_state = mapped.values.get(value, self._mapped_state)
        if member.node is not None:
            self._nm.message(member.node, time_ns, payload)
        self._evaluate(time_ns)


def _check_mapping(mapped: MappedPdu) -> None:
    if mapped.byte < 0:
        raise ConfigError(f"activity state of PDU {mapped.name!r}: byte {mapped.byte} is below 0")
    if not 0 < mapped.mask <= 0xFF:
        raise ConfigError(f"activity state of PDU {mapped.name!r}: mask {mapped.mask:#x} is not 0x01 to 0xff")
    for value, state in mapped.values.items():
        if state not in ACTIVITY_STATES:
            raise ConfigError(
                f"activity state of PDU {mapped.name!r}: value {value} means {state}, which is none of "
                f"{', '.join(f'{code} ({text})' for code, text in ACTIVITY_STATES.items())}"
            )
