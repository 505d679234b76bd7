"""The paper's own filter: k consecutive lines, of any PDU, whose perplexity is above a threshold.

Paper: arXiv 2507.01077, section III.F, width 3 and threshold 1.5. Values that are above or below for less
than k lines in a row are removed. PDUs interleave, so a single late PDU between good lines of others is
removed too; the filter is here to compare with.
"""

from collections.abc import Iterable

from ecustream.detect.episodes import Episodes, Sighting
from ecustream.events import Event
from ecustream.scores import LineScore, ScoreBlock
from ecustream.traffic import Stream

__all__ = ["PerplexityFilter"]


class PerplexityFilter:
    """Scored lines in, events out, with the methods of `Detector`.

    Args:
        threshold: perplexity that a line must exceed.
        lines: how many in a row open an episode, and how many below it in a row close it.
        join_ns: see `Episodes`.
    """

    def __init__(self, threshold: float, lines: int, join_ns: int) -> None:
        self._threshold = threshold
        self._lines = lines
        self._streak: list[LineScore] = []
        self._below = 0
        self._is_open = False
        self._now = 0
        self._keys: set[str] = set()
        self.episodes = Episodes(join_ns)

    def step(self, scores: Iterable[LineScore]) -> list[Event]:
        """Take scored lines in order; the events that they bring about."""
        events: list[Event] = []
        for score in scores:
            self._now = max(self._now, score.line.time_ns)
            due = self.episodes.due_ns
            if due is not None and due <= self._now:
                events += self.episodes.advance(self._now)
            above = not score.warming and score.perplexity > self._threshold
            if above:
                self._below = 0
                self._streak.append(score)
                if self._is_open or len(self._streak) >= self._lines:
                    self._is_open = True
                    for held in self._streak:
                        events += self._tell(held)
                    self._streak.clear()
            else:
                self._streak.clear()
                self._below += 1
                if self._is_open and self._below >= self._lines:
                    self._close()
        return events

    def step_block(self, block: ScoreBlock) -> list[Event]:
        """The same as `step` with the rows of a block."""
        return self.step(block.rows())

    def advance(self, time_ns: int) -> list[Event]:
        """Let capture time pass without lines."""
        self._now = max(self._now, time_ns)
        return self.episodes.advance(self._now)

    @property
    def now_ns(self) -> int:
        """Capture time up to which everything was judged; 0 before anything was."""
        return self._now

    def began(self, source: str, time_ns: int, since: str = "") -> list[Event]:
        """The capture of a bus began; nothing is told of what does not come."""
        return []

    def gap(self, time_ns: int, source: str, why: str) -> list[Event]:
        """The capture lost something before `time_ns`."""
        events = self.finish("at the gap in the capture") if self._now else []
        self._streak.clear()
        self._is_open, self._below, self._now = False, 0, time_ns
        self._keys.clear()
        return events + self.episodes.capture_gap(time_ns, time_ns, source, why)

    def open_events(self, time_ns: int) -> list[Event]:
        """What is open at `time_ns`, see `Detector`."""
        self.advance(time_ns)
        return self.episodes.open_events(self._now)

    def finish(self, still: str = "at the end") -> list[Event]:
        """The traffic ends here; open episodes close, see `Detector`."""
        return self.episodes.finish(self._now, still)

    def _tell(self, score: LineScore) -> list[Event]:
        stream: Stream = score.line.stream
        value = score.perplexity
        sighting = Sighting(
            stream=stream,
            time_ns=self._now,
            start_ns=score.line.time_ns,
            line=score.line,
            evidence="field",
            fields=[],
            rarity_nats=value,
            threshold_nats=self._threshold,
            reason=(
                f"{stream.name} had perplexity {value:.2f}, expected at most {self._threshold:g}, "
                f"for {self._lines} or more lines in a row"
            ),
            perplexity=value,
            surprisal_nats=score.surprisal_nats,
        )
        self._keys.add(stream.key)
        if self.episodes.is_open(stream.key):
            return self.episodes.continued(sighting)
        return self.episodes.opened(sighting)

    def _close(self) -> None:
        self._is_open = False
        for key in self._keys:
            self.episodes.closed(key, self._now)
        self._keys.clear()
