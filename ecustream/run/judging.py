"""Takes lines from the lanes pass by pass, has them scored and judged, hands on what that gives."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ecustream.errors import BundleError, OutputError
from ecustream.run.intake import Intake, Taken
from ecustream.run.outputs import Outputs
from ecustream.run.succession import Succession
from ecustream.run.tracks import Track
from ecustream.scores import ScoreBlock
from ecustream.stages import StageClock
from ecustream.traffic import Line

if TYPE_CHECKING:
    from ecustream.scoring.scorer import ScoredStream

__all__ = ["Judging"]


class Judging:
    """The work of the scoring thread; how long it goes on is its owner's affair.

    Args:
        tracks: one for each lane.
        intake: takes the lines of all lanes.
        succession: scores them.
        outputs: gets scores and events.
        clock: accounts for the time.
        without_model: whether lines are judged by their intervals alone when the model is lost.
        beat: is told before each batch that is scored, of which a model that takes over reads many at once.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        intake: Intake,
        succession: Succession,
        outputs: Outputs,
        clock: StageClock,
        *,
        without_model: bool,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._tracks = tracks
        self._intake = intake
        self._succession = succession
        self._outputs = outputs
        self._clock = clock
        self._without_model = without_model
        self._beat = beat

    def begin(self, wall_ns: int) -> None:
        """Lanes of interfaces have begun to capture at that time."""
        for track in self._tracks:
            self._outputs.emit(track.began(wall_ns))

    def step(self, timeout_ns: int | None) -> list[Taken]:
        """Make one pass, for which it waits so long at most; what it took.

        Raises:
            EcustreamError: a lane cannot be read, or the bundle is of another vehicle.
        """
        # Before the lines are taken: every line up to then is among them, or was taken before.
        reached = [track.lane.reached for track in self._tracks]
        with self._clock.stage("wait for lines"):
            taken = self._intake.take(timeout_ns)
        for track, part, at in zip(self._tracks, taken, reached, strict=True):
            if part.empty:
                # A break may be the last that comes.
                breaks, passed_ns = track.lane.passed(track.lane.reached if part.ended else at)
                for broken in breaks:
                    self._outputs.emit(track.interrupt(broken))
                self._outputs.emit(track.finish() if part.ended else track.idle(passed_ns))
        self._pass(taken)
        return taken

    def finish(self) -> None:
        """The lanes have ended."""
        for track in self._tracks:
            for broken in track.lane.passed(track.lane.reached)[0]:
                self._outputs.emit(track.interrupt(broken))
            self._outputs.emit(track.finish())

    def foreign(self) -> list[str]:
        """A problem for each trace of another vehicle that is too short to be refused while it is read.

        Raises:
            BundleError: no other trace is of the bundle's vehicle.
        """
        foreign = [track.problem for track in self._tracks if track.problem is not None]
        if foreign and not any(track.known for track in self._tracks):
            raise BundleError("; ".join(foreign))
        return foreign

    def succeed(self) -> bool:
        """Begin or end a change of the model; whether another one has taken over."""
        model = self._succession.look(time.monotonic_ns(), lambda: [track.recent() for track in self._tracks])
        if model is None:
            return False
        for track in self._tracks:
            self._outputs.emit(track.succeed(model, self._score))
        return True

    def _pass(self, taken: Sequence[Taken]) -> None:
        """Score what was taken; a lane with a gap in its lines takes several turns."""
        turns = [
            (index, track, deque(track.lane.pieces(part.lines, part.skipped)))
            for index, (track, part) in enumerate(zip(self._tracks, taken, strict=True))
            if part.lines
        ]
        while turns:
            batch = [(index, track, *pieces.popleft()) for index, track, pieces in turns]
            for _, track, lines, gap in batch:
                if gap:
                    self._outputs.emit(track.gap(lines[0], gap))
            blocks = self._scored([(track, lines) for _, track, lines, _ in batch])
            for (index, track, lines, _), block in zip(batch, blocks, strict=True):
                self._take(index, track, lines, block)
            turns = [turn for turn in turns if turn[2]]

    def _scored(self, batch: Sequence[tuple[Track, list[Line]]]) -> Sequence[ScoreBlock | None]:
        """The scores of each part; None where there is no model."""
        blocks = self._score([(track.stream, lines) for track, lines in batch])
        if blocks is not None:
            return blocks
        if not self._without_model:
            raise OutputError(self._succession.why)
        return [None] * len(batch)

    def _score(self, batch: Sequence[tuple["ScoredStream", Sequence[Line]]]) -> list[ScoreBlock] | None:
        self._beat()
        return self._succession.score(batch)

    def _take(self, index: int, track: Track, lines: list[Line], block: ScoreBlock | None) -> None:
        with self._clock.stage("detection", len(lines)):
            events = track.take_unscored(lines) if block is None else track.take(block)
        with self._clock.stage("publishing", len(lines)):
            if block is not None:
                self._outputs.scores(index, track.trace, block)
            self._outputs.emit(events)
