"""Groups what single PDUs show into episodes of a bus, each with one id, an open and a close.

A finding is what one PDU shows; an episode is the findings of one bus that belong together in time. A
finding joins the open episode if it opens within `join_ns` of that episode's newest evidence, otherwise
it starts another one: a PDU that never comes back must not swallow what happens an hour later.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from ecustream.events import Event, EventPdu, EventScore, Evidence, Kind
from ecustream.traffic import Line, Stream

__all__ = ["Episodes", "Finding", "Over", "Sighting"]

_UPDATE_EVERY_NS = 250_000_000
_NEVER_NS = 2**63 - 1


class Over(NamedTuple):
    """Of a silence that ended: what its episode says when it closes, where it is the one that weighs most.

    That of a whole bus weighs more than those of its PDUs; else `weight` is how long it was, in cycles of
    the PDU or, of a bus, in ns.
    """

    reason: str
    whole_bus: bool
    weight: float


@dataclass(slots=True)
class Sighting:
    """One piece of evidence about one PDU, at one moment.

    `time_ns` is when it was decided, `start_ns` when what it tells of began. `line` is None where the
    evidence is that no line came.
    """

    stream: Stream
    time_ns: int
    start_ns: int
    line: Line | None
    evidence: Evidence
    fields: list[str]
    rarity_nats: float
    threshold_nats: float
    reason: str
    perplexity: float | None = None
    surprisal_nats: float | None = None
    since_frame: int = 0


@dataclass(slots=True, eq=False)
class Finding:
    """What one PDU shows while it is conspicuous; part of one episode."""

    stream: Stream
    episode: "_Episode"
    expires_ns: int | None
    lines: int = 0
    fields: list[str] = field(default_factory=list)
    missing: Sighting | None = None


@dataclass(slots=True, eq=False)
class _Episode:
    number: int
    kind: Kind
    source: str
    start_ns: int
    newest_ns: int
    findings: dict[str, Finding] = field(default_factory=dict)
    active: set[str] = field(default_factory=set)
    frames: tuple[int, int] | None = None
    best: Sighting | None = None
    over: Over | None = None
    perplexity: float | None = None
    surprisal_nats: float | None = None
    told_ns: int = 0
    untold: bool = False
    quiet_ns: int = 0

    def take(self, finding: Finding, sighting: Sighting) -> None:
        self.newest_ns = max(self.newest_ns, sighting.time_ns)
        self.start_ns = min(self.start_ns, sighting.start_ns)
        for name in sighting.fields:
            if name not in finding.fields:
                finding.fields.append(name)
        if sighting.line is None:
            finding.missing = sighting
        else:
            finding.lines += 1
        for frame in (sighting.since_frame, sighting.line.frame if sighting.line else 0):
            if frame:
                first, last = self.frames or (frame, frame)
                self.frames = min(first, frame), max(last, frame)
        if self.best is None or self._weight(sighting) > self._weight(self.best):
            self.best = sighting
        if sighting.perplexity is not None:
            self.perplexity = max(self.perplexity or 0.0, sighting.perplexity)
        if sighting.surprisal_nats is not None:
            self.surprisal_nats = max(self.surprisal_nats or 0.0, sighting.surprisal_nats)

    def closing(self, still: str | None) -> str:
        """The reason at the end, `still` says until when what is active lasted."""
        assert self.best is not None
        told = self.best
        if self.kind == "silence":
            active = [finding for key, finding in self.findings.items() if key in self.active]
            missing = [finding.missing for finding in active if finding.missing is not None]
            if not missing:
                return self.over.reason if self.over is not None else told.reason
            told = max(missing, key=lambda sighting: sighting.rarity_nats)
        return f"{told.reason}; still so {still}" if self.active and still else told.reason

    def _weight(self, sighting: Sighting) -> tuple[bool, float]:
        """What tells most of the episode: what a silence is told by says that something did not come."""
        fits = self.kind != "silence" or sighting.evidence in ("missing", "late")
        return fits, sighting.rarity_nats

    def expires_ns(self, key: str) -> int:
        expires = self.findings[key].expires_ns
        return _NEVER_NS if expires is None else expires

    def event(self, phase: str, at_ns: int, reason: str | None = None) -> Event:
        assert self.best is not None
        self.told_ns, self.untold = at_ns, False
        best = self.best
        return Event(
            run="",
            seq=0,
            kind_seq=0,
            id=str(self.number),
            kind=self.kind,
            phase=phase,  # type: ignore[arg-type]
            source=self.source,
            start_ns=self.start_ns,
            end_ns=self.newest_ns if phase == "close" else None,
            decided_ns=at_ns,
            published_ns=None,
            frames=self.frames,
            lines=sum(f.lines for f in self.findings.values()),
            pdus=[
                EventPdu(name=f.stream.name, lines=f.lines, fields=list(f.fields))
                for f in self.findings.values()
            ],
            evidence=best.evidence,
            score=EventScore(
                perplexity=_rounded(self.perplexity),
                surprisal=_rounded(self.surprisal_nats),
                evidence=round(best.rarity_nats, 2),
                threshold=round(best.threshold_nats, 2),
            ),
            reason=reason or best.reason,
            wireshark=self._wireshark(),
        )

    def _wireshark(self) -> str | None:
        if self.frames is None:
            return None
        ids = sorted({f.stream.pdu_id for f in self.findings.values() if f.stream.pdu_id is not None})
        first, last = self.frames
        frames = f"frame.number >= {first} && frame.number <= {last}"
        if not ids or len(ids) > 8:
            return frames
        names = " || ".join(f"pdu_transport.id == 0x{i:08x}" for i in ids)
        return f"({names}) && {frames}" if len(ids) > 1 else f"{names} && {frames}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


class Episodes:
    """The episodes of all buses; every method returns the events to publish, in order.

    Args:
        join_ns: findings that open within it of an episode's newest evidence join it; it closes when
            nothing in it is conspicuous any more and nothing came for as long.

    Attributes:
        due_ns: the next time at which `advance` has something to tell; None while nothing is open.
    """

    def __init__(self, join_ns: int) -> None:
        self._join_ns = join_ns
        self._count = 0
        self._open: list[_Episode] = []
        self._finding_of: dict[str, Finding] = {}
        self.due_ns: int | None = None

    def opened(
        self,
        sighting: Sighting,
        kind: Kind = "anomaly",
        expires_ns: int | None = None,
        part_of: str | None = None,
    ) -> list[Event]:
        """A PDU became conspicuous.

        Args:
            sighting: what it showed.
            kind: of the episode, should this begin one.
            expires_ns: when the finding is over if nothing more is heard of it; None for never.
            part_of: key of another open finding that explains this one, so that they are one episode.
        """
        stream = sighting.stream
        events: list[Event] = []
        reason = self._finding_of.get(part_of) if part_of is not None else None
        episode = reason.episode if reason else self._joinable(stream.source, sighting.time_ns, kind)
        phase = "update"
        if episode is None:
            self._count += 1
            episode = _Episode(self._count, kind, stream.source, sighting.start_ns, sighting.time_ns)
            self._open.append(episode)
            phase = "open"
        finding = episode.findings.get(stream.key)
        if finding is None:
            finding = episode.findings[stream.key] = Finding(stream, episode, expires_ns)
        finding.expires_ns = expires_ns
        self._finding_of[stream.key] = finding
        episode.active.add(stream.key)
        episode.take(finding, sighting)
        if phase == "open" or sighting.time_ns - episode.told_ns >= _UPDATE_EVERY_NS:
            events.append(episode.event(phase, sighting.time_ns))
        else:
            episode.untold = True
        self._schedule()
        return events

    def continued(self, sighting: Sighting, expires_ns: int | None = None) -> list[Event]:
        """More evidence about a PDU that is conspicuous already."""
        finding = self._finding_of.get(sighting.stream.key)
        if finding is None:  # it had expired meanwhile
            return self.opened(sighting, expires_ns=expires_ns)
        episode = finding.episode
        due_before = finding.expires_ns, episode.untold
        finding.expires_ns = expires_ns
        before = episode.best
        episode.take(finding, sighting)
        if episode.best is not before:
            episode.untold = True
        events = []
        if episode.untold and sighting.time_ns - episode.told_ns >= _UPDATE_EVERY_NS:
            events.append(episode.event("update", sighting.time_ns))
        # Hundreds of PDUs may be conspicuous for as many lines: look at all of them only where it matters.
        if (expires_ns, episode.untold) != due_before:
            self._schedule()
        return events

    def over(self, key: str, over: Over) -> None:
        """A silence of a PDU or of a bus is over; what else it shows may last."""
        finding = self._finding_of.get(key)
        if finding is not None:
            finding.missing = None
            past = finding.episode.over
            if past is None or over[1:] > past[1:]:
                finding.episode.over = over

    def closed(self, key: str, time_ns: int, *, lasted: bool = False) -> None:
        """A PDU is inconspicuous again; its episode closes later, with `advance`.

        Args:
            key: the PDU.
            time_ns: since when.
            lasted: whether what it showed lasted until now, as a silence does.
        """
        finding = self._finding_of.pop(key, None)
        if finding is not None:
            episode = finding.episode
            episode.active.discard(key)
            episode.quiet_ns = max(episode.quiet_ns, time_ns)
            if lasted:
                episode.newest_ns = max(episode.newest_ns, time_ns)
            self._schedule()

    def advance(self, time_ns: int) -> list[Event]:
        """Tell what becomes due up to `time_ns`: updates that were held back, and closes."""
        events: list[Event] = []
        while self.due_ns is not None and self.due_ns <= time_ns:
            due = self.due_ns
            for episode in list(self._open):
                for key in [k for k in episode.active if episode.expires_ns(k) <= due]:
                    self.closed(key, episode.expires_ns(key))
                if not episode.active and self._close_ns(episode) <= due:
                    self._open.remove(episode)
                    events.append(episode.event("close", due, episode.closing(None)))
                elif episode.untold and episode.told_ns + _UPDATE_EVERY_NS <= due:
                    events.append(episode.event("update", due))
            self._schedule()
        return events

    def _close_ns(self, episode: _Episode) -> int:
        return max(episode.newest_ns + self._join_ns, episode.quiet_ns)

    def _schedule(self) -> None:
        """Find the next moment at which `advance` has something to do."""
        due: list[int] = []
        for episode in self._open:
            due += [episode.expires_ns(key) for key in episode.active]
            if not episode.active:
                due.append(self._close_ns(episode))
            if episode.untold:
                due.append(episode.told_ns + _UPDATE_EVERY_NS)
        soonest = min(due, default=_NEVER_NS)
        self.due_ns = None if soonest >= _NEVER_NS else soonest

    def open_events(self, time_ns: int) -> list[Event]:
        """An `open` of every episode that is open, as it is by now, for those who were not told of it."""
        events = [episode.event("open", time_ns) for episode in self._open]
        self._schedule()
        return events

    def finish(self, time_ns: int, still: str = "at the end") -> list[Event]:
        """Close everything; what is still open says that it was `still` so, as at the end of a trace."""
        events = []
        for episode in self._open:
            # Only what has no end of its own, a silence, lasts until the traffic ends.
            if any(episode.findings[key].expires_ns is None for key in episode.active):
                episode.newest_ns = max(episode.newest_ns, time_ns)
            events.append(episode.event("close", time_ns, episode.closing(still)))
        self._open, self.due_ns = [], None
        self._finding_of.clear()
        return events

    def unknown_pdu(self, sighting: Sighting) -> list[Event]:
        """A PDU that is not known came for the first time; those of a join window are one episode."""
        events = self.opened(sighting, "unknown_pdu")
        self.closed(sighting.stream.key, sighting.time_ns)
        return events

    def capture_gap(self, start_ns: int, time_ns: int, source: str, why: str) -> list[Event]:
        """The capture lost something between two times: an episode that is over when it is told."""
        stream = Stream(-1, f"capture|{source}", f"capture of {source}", source, "", 0, "", 0)
        sighting = Sighting(stream, time_ns, min(start_ns, time_ns), None, "gap", [], 0.0, 0.0, why)
        self._count += 1
        episode = _Episode(self._count, "capture_gap", source, sighting.start_ns, time_ns)
        finding = episode.findings[stream.key] = Finding(stream, episode, None)
        episode.take(finding, sighting)
        return [episode.event("open", time_ns), episode.event("close", time_ns)]

    def is_open(self, key: str) -> bool:
        """Whether the PDU is part of an open finding."""
        return key in self._finding_of

    def _joinable(self, source: str, time_ns: int, kind: Kind) -> _Episode | None:
        for episode in reversed(self._open):
            # What follows a silence is part of it; a silence that begins is told as one, at once.
            fits = episode.kind == kind or (kind == "anomaly" and episode.kind == "silence")
            if fits and episode.source == source and time_ns - episode.newest_ns <= self._join_ns:
                return episode
        return None
