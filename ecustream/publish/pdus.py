"""The answer to `{"op":"pdus"}`: what was learned of every PDU beside what the run sees of it."""

from collections.abc import Iterable, Mapping

import msgspec

from ecustream.detect.calibration import PduCalibration
from ecustream.flows import flows
from ecustream.run.summary import PduSummary

__all__ = ["PduRow", "PduRows", "PduTable"]


class PduRow(msgspec.Struct, frozen=True, kw_only=True):
    """One PDU.

    `cycle_ns` is the learned median interval and `shortest_ns` to `longest_ns` what clean traffic stays
    within; all three null where it was not learned or is not cyclic. `known` tells whether it was learned
    at all. `observed_ns` is the mean interval of its lines in the last second or so, or of its last ones
    before that; null before there were two. `last_ns` is the capture time of its last line, null before
    the first; `episodes` counts those that have ended. `flow` tells PDUs of one name apart: `to` a
    destination or `from` a sender; empty where the name says enough.
    """

    name: str
    source: str
    known: bool
    cycle_ns: int | None
    shortest_ns: int | None
    longest_ns: int | None
    observed_ns: int | None
    lines: int
    last_ns: int | None
    episodes: int
    flow: str = ""


class PduTable(msgspec.Struct, frozen=True, kw_only=True):
    """The PDUs of a run: those that were learned, then the others in order of first sight.

    `last_ns` is the capture time up to which lines were scored, 0 before the first.
    """

    run: str
    last_ns: int
    pdus: list[PduRow]


class PduRows:
    """Makes the rows of a table from the counts of a run; intervals are those since the table before.

    Args:
        calibrations: the PDUs that were learned.
    """

    def __init__(self, calibrations: Iterable[PduCalibration]) -> None:
        self._learned = {pdu.key: pdu for pdu in calibrations}
        self._before: dict[str, tuple[int, int]] = {}
        self._observed: dict[str, int] = {}

    def rows(self, seen: Mapping[str, PduSummary]) -> list[PduRow]:
        """The rows for what a run has seen so far, by key."""
        names = {key: (pdu.name, pdu.source) for key, pdu in self._learned.items()}
        names |= {key: (pdu.name, pdu.source) for key, pdu in seen.items()}
        words = flows({key: name for key, (name, _) in names.items()})
        return [self._row(key, *names[key], words[key], seen.get(key)) for key in names]

    def _row(self, key: str, name: str, source: str, flow: str, seen: PduSummary | None) -> PduRow:
        learned = self._learned.get(key)
        cyclic = learned if learned is not None and learned.cycle_ns else None
        return PduRow(
            name=name,
            source=source,
            known=learned is not None,
            cycle_ns=cyclic.cycle_ns if cyclic else None,
            shortest_ns=cyclic.shortest_ns[0] if cyclic else None,
            longest_ns=cyclic.longest_ns[0] if cyclic else None,
            observed_ns=self._observed_ns(key, seen) if seen else None,
            lines=seen.lines if seen else 0,
            last_ns=seen.last_ns if seen else None,
            episodes=seen.episodes if seen else 0,
            flow=flow,
        )

    def _observed_ns(self, key: str, seen: PduSummary) -> int | None:
        lines, last_ns = self._before.get(key, (1, seen.first_ns))
        if seen.lines > lines:
            self._before[key] = (seen.lines, seen.last_ns)
            if seen.last_ns > last_ns:  # else the capture clock went back
                self._observed[key] = (seen.last_ns - last_ns) // (seen.lines - lines)
        return self._observed.get(key)
