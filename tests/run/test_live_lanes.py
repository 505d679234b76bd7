"""Live lanes and runs, on a capture that plays a trace."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from ecustream.capture.breaks import Break, Reached
from ecustream.capture.files import open_capture
from ecustream.decode.lines import LineBuilder
from ecustream.decode.packets import PacketDecoder
from ecustream.errors import OutputError
from ecustream.events import Event
from ecustream.ledger import Ledger
from ecustream.run.live_lanes import LiveLane, LiveLines
from ecustream.run.ring import Ring
from ecustream.scoring.scorer import Scorer
from ecustream.service import Run
from ecustream.stages import StageClock
from ecustream.traffic import Frame, Line
from tests.namespaces import wait_for
from tests.run.test_service import config

S = 10**9
Piece = list[Frame] | Break | int


class Played:
    """Stands in for a `LiveCapture`: hands on what it is given, then waits for `stop`.

    Between frames and breaks there may be capture times, up to which time then passes in silence.
    """

    def __init__(self, pieces: list[Piece], ledger: Ledger | None = None) -> None:
        self.interface = self.source = "b0"
        self.losses: deque[tuple[int, int]] = deque()
        self.reached = Reached(0, 0)
        self.bytes_read = 0
        self.trouble: str | None = None
        self.ledger = ledger or Ledger()
        self.stopped = threading.Event()
        self.exhausted = threading.Event()
        self._pieces = pieces

    def __iter__(self) -> Iterator[list[Frame] | Break]:
        for piece in self._pieces:
            if isinstance(piece, int):
                # Time passes by itself only when all lines were judged.
                wait_for(lambda: self.ledger.open("lines") == 0, 60)
                time.sleep(0.1)
                self.reached = Reached(piece, self.reached.breaks)
                time.sleep(0.1)
                continue
            if isinstance(piece, Break):
                self.reached = Reached(0, self.reached.breaks + 1)
            else:
                self.ledger.enter("frames", len(piece))
            yield piece
            time_ns = piece.time_ns if isinstance(piece, Break) else piece[-1].time_ns
            self.reached = Reached(time_ns, self.reached.breaks)
        self.exhausted.set()
        self.stopped.wait(60)

    def start(self) -> None:
        """There is nothing to start."""

    def stop(self) -> None:
        """As a capture does."""
        self.stopped.set()

    def close(self) -> None:
        """Nothing to give back."""


def frames_of(path: Path) -> list[Frame]:
    """All frames of a trace."""
    with open_capture(path, Ledger()) as reader:
        return [frame for batch in reader for frame in batch]


def later(frames: list[Frame], by_ns: int) -> list[Frame]:
    """The same frames by another clock."""
    return [msgspec.structs.replace(frame, time_ns=frame.time_ns + by_ns) for frame in frames]


def batches(frames: list[Frame]) -> list[Piece]:
    """In hundreds, as a ring gives them."""
    return [frames[i : i + 100] for i in range(0, len(frames), 100)]


def lane_of(pieces: list[Piece]) -> tuple[LiveLane, Played]:
    """A lane that plays these."""
    played = Played(pieces)
    ledger = played.ledger
    lines = LiveLines(
        played,  # type: ignore[arg-type]
        PacketDecoder(ledger),
        LineBuilder(ledger),
        StageClock(enabled=False),
        ledger,
    )
    return LiveLane(lines, Ring(10**6, "skip", ledger), ledger), played


def take(lane: LiveLane) -> list[Line]:
    """The lines that are there."""
    return lane.ring.take(10**6)[0]


class TestLane:
    def test_reads_from_go_to_stop(self, clean_trace: Path) -> None:
        """Nothing is captured before somebody takes it; after `stop` what was captured still comes."""
        lane, played = lane_of(batches(frames_of(clean_trace)[:1000]))
        lane.start()
        time.sleep(0.05)
        assert lane.ledger.entered == Ledger().entered
        lane.go()
        played.exhausted.wait(10)
        lane.stop()
        lane.close()
        taken = take(lane)
        assert lane.ring.closed_and_empty
        assert lane.ledger.entered["frames"] == 1000
        assert len(taken) == lane.ledger.entered["lines"] > 500
        assert lane.name == "b0"

    def test_stop_does_not_cut_off_what_was_captured(self, clean_trace: Path) -> None:
        """The rest of the kernel's ring comes after `stop`, and is read to its end."""
        lane, _ = lane_of(batches(frames_of(clean_trace)[:1000]))
        lane.start()
        lane.stop()
        lane.go()
        lane.close()
        assert lane.ledger.entered["frames"] == 1000
        assert lane.ledger.open("frames") == 0

    def test_a_break_is_told_before_the_line_after_it(self, clean_trace: Path) -> None:
        """Lines that were taken together are parted at it, and no delta time reaches over it."""
        frames = frames_of(clean_trace)[:1000]
        broken = Break(frames[500].time_ns, "b0", "interface b0 was down for 2 s")
        lane, played = lane_of([frames[:500], broken, frames[500:]])
        lane.start()
        lane.go()
        played.exhausted.wait(10)
        wait_for(lambda: lane.reached.time_ns == frames[-1].time_ns)
        (before, no), (after, why) = lane.pieces(take(lane), 0)
        assert (no, why) == ("", broken.why)
        assert before[-1].time_ns <= frames[499].time_ns < frames[500].time_ns <= after[0].time_ns
        first = {line.stream.key: line for line in reversed(after)}
        assert all(line.delta_ns is None for line in first.values())
        assert sum(line.delta_ns is None for line in after) == len(first)
        assert lane.passed(lane.reached) == ([], frames[-1].time_ns)
        lane.stop()

    def test_a_break_without_lines_is_told_by_itself(self, clean_trace: Path) -> None:
        """Once, when no line waits, and not before the lines that came before it were taken."""
        frames = frames_of(clean_trace)[:200]
        broken = Break(frames[-1].time_ns + 2 * S, "b0", "interface b0 was gone for 2.00 s")
        lane, played = lane_of([frames, broken])
        lane.start()
        lane.go()
        played.exhausted.wait(10)
        wait_for(lambda: lane.reached.time_ns == broken.time_ns)
        early = Reached(frames[-1].time_ns, 0)
        assert lane.passed(early) == ([], early.time_ns)
        take(lane)
        assert lane.passed(lane.reached) == ([broken], broken.time_ns)
        assert lane.passed(lane.reached) == ([], broken.time_ns)
        # What was asked before the break is by a clock that may not be valid any more.
        assert lane.passed(early) == ([], 0)
        lane.stop()


def play(
    pieces: list[Piece],
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    **keys: Any,
) -> tuple[Run, list[Event], Played]:
    """A live run over these, stopped when all of it was scored."""
    captures: list[Played] = []

    def capture(name: str, ledger: Ledger, **options: object) -> Played:
        captures.append(Played(pieces, ledger))
        return captures[0]

    monkeypatch.setattr("ecustream.capture.live.LiveCapture", capture)
    # One of its own: a live run goes on at the end of a file that is there.
    events = tmp_path / f"events-{len(list(tmp_path.iterdir()))}.jsonl"
    run = Run(config(**keys), [], bundle, interfaces=["b0"], events=str(events))

    def stop_at_the_end() -> None:
        captures[0].exhausted.wait(60)
        wait_for(lambda: captures[0].ledger.open("lines") == 0, 60)
        time.sleep(0.5)
        run.stop()

    thread = threading.Thread(target=stop_at_the_end)
    thread.start()
    summary = run.execute()
    thread.join()
    assert summary.ledger.balanced()
    assert not summary.interrupted
    return (
        run,
        [msgspec.json.decode(line, type=Event) for line in events.read_bytes().splitlines()],
        captures[0],
    )


class TestRun:
    @pytest.mark.parametrize("by_s", [3600, -3600, 5, -5])
    def test_a_clock_that_is_set_is_one_gap(
        self, clean_trace: Path, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_s: int
    ) -> None:
        """An hour either way: no deadline storm, no false event, one capture_gap."""
        frames = frames_of(clean_trace)
        half = len(frames) // 2
        after = later(frames[half:], by_s * S)
        broken = Break(after[0].time_ns, "ETH1", f"the clock of this machine was set by {by_s} s")
        pieces = [*batches(frames[:half]), broken, *batches(after)]
        _, events, _ = play(pieces, bundle_path, tmp_path, monkeypatch)
        assert [(event.kind, event.phase) for event in events] == [
            ("capture_gap", "open"),
            ("capture_gap", "close"),
        ]
        assert {event.reason for event in events} == {broken.why}

    @pytest.mark.parametrize("by_s", [3600, -3600])
    def test_a_clock_that_is_set_in_silence(
        self, clean_trace: Path, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_s: int
    ) -> None:
        """Nothing comes after the step: the gap is told, and by the new clock the silence, when it is due."""
        frames = frames_of(clean_trace)
        frames = frames[: len(frames) // 2]
        step = Break(frames[-1].time_ns + by_s * S, "ETH1", "set")
        soon, late = step.time_ns + S // 1000, step.time_ns + 60 * S
        _, events, _ = play([*batches(frames), step, soon], bundle_path, tmp_path, monkeypatch)
        assert [event.kind for event in events if event.phase == "open"] == ["capture_gap"]
        _, events, _ = play([*batches(frames), step, soon, late], bundle_path, tmp_path, monkeypatch)
        assert [event.kind for event in events if event.phase == "open"] == ["capture_gap", "silence"]
        silence = next(event for event in events if event.kind == "silence")
        assert step.time_ns <= silence.start_ns <= silence.decided_ns < step.time_ns + 10 * S

    def test_a_break_at_the_very_end(
        self, clean_trace: Path, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is told although nothing follows, also one that comes after the stop."""
        frames = frames_of(clean_trace)[:3000]
        broken = Break(
            frames[-1].time_ns + S // 1000, "b0", "interface b0 was down at the end, for 5 s by then"
        )

        class Late(Played):
            def __iter__(self) -> Iterator[list[Frame] | Break]:
                yield from super().__iter__()
                self.reached = Reached(0, self.reached.breaks + 1)
                yield broken

        monkeypatch.setattr("tests.run.test_live_lanes.Played", Late)
        _, events, _ = play(batches(frames), bundle_path, tmp_path, monkeypatch)
        assert [event.reason for event in events if event.kind == "capture_gap"] == [broken.why] * 2

    def test_silence_is_told_without_a_line(
        self, clean_trace: Path, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Time passes although nothing comes, so that a dead bus is found out."""
        frames = frames_of(clean_trace)[:3000]
        pieces = [*batches(frames), frames[-1].time_ns + 20 * S]
        _, events, _ = play(pieces, bundle_path, tmp_path, monkeypatch)
        assert [event.kind for event in events if event.phase == "open"] == ["silence"]

    def test_an_event_says_when_it_was_published(
        self, faulty_trace: Path, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And every run has an id of its own, where an offline run derives it."""
        before_ns = time.time_ns()
        pieces = batches(frames_of(faulty_trace))
        run, events, _ = play(pieces, bundle_path, tmp_path, monkeypatch)
        other, _, _ = play(pieces, bundle_path, tmp_path, monkeypatch)
        assert events
        published = [event.published_ns or 0 for event in events]
        assert published == sorted(published)
        assert before_ns < published[0] <= published[-1] < time.time_ns()
        ids = {run._summary.run, other._summary.run}
        assert {len(name) for name in ids} == {16}
        assert len(ids) == 2

    def test_offline_events_are_found_live(
        self, faulty_trace: Path, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The same frames give the same episodes as the trace does."""
        from tests.running import run_offline

        _, expected = run_offline(faulty_trace, bundle_path, tmp_path / "offline.jsonl")
        _, events, _ = play(batches(frames_of(faulty_trace)), bundle_path, tmp_path, monkeypatch)

        def shape(events: list[Event]) -> list[tuple[object, ...]]:
            return [(event.phase, event.kind, event.start_ns, event.end_ns) for event in events]

        # At its end a live run has no last line: what is open then is told as over at another time.
        assert shape(events)[:-2] == shape(expected)[:-2]

    def test_a_lost_model_leaves_deadlines_and_silence(
        self, clean_trace: Path, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Capture goes on, lines end as unscored, the dead bus is told, and the state says why."""
        frames = frames_of(clean_trace)[:6000]
        passes = 0
        score = Scorer.score

        def lose_it(self: Scorer, batch: Any) -> Any:
            nonlocal passes
            passes += 1
            if passes > 5:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return score(self, batch)

        monkeypatch.setattr(Scorer, "score", lose_it)
        monkeypatch.setattr("ecustream.run.succession._Loading.ended", False)
        pieces = [*batches(frames), frames[-1].time_ns + 20 * S]
        run, events, _ = play(pieces, bundle_path, tmp_path, monkeypatch)
        assert [event.kind for event in events if event.phase == "open"] == ["silence"]
        ends = run._summary.ledger.ends["lines"]
        assert ends["scored"] > 0
        assert ends["unscored{no_model}"] == run._summary.ledger.entered["lines"] - ends["scored"] > 0
        why = "the model on cpu was lost (CUDA out of memory. Tried to allocate 2.00 GiB)"
        assert any(problem.startswith(why) for problem in run._summary.problems)
        assert run._succession is not None
        assert (run._succession.trouble or "").startswith(why)

    def test_a_lost_model_comes_back(
        self, clean_trace: Path, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is loaded again beside the traffic, and scores what comes then, without a false event."""
        frames = frames_of(clean_trace)[:2500]
        score = Scorer.score
        lost = iter([False] * 5 + [True])

        def lose_it_once(self: Scorer, batch: Any) -> Any:
            if next(lost, False):
                raise MemoryError
            return score(self, batch)

        monkeypatch.setattr(Scorer, "score", lose_it_once)
        slow = [piece for batch in batches(frames) for piece in (batch, 0)]
        run, events, _ = play(slow, bundle_path, tmp_path, monkeypatch)
        assert events == []
        ends = run._summary.ledger.ends["lines"]
        assert 0 < ends["unscored{no_model}"] < ends["scored"]
        assert run._succession is not None
        assert run._succession.trouble is None

    def test_a_trace_is_not_half_scored(
        self, clean_trace: Path, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A trace can be run again: where the model is lost, the run ends with one sentence."""

        def lose_it(self: Scorer, batch: Any) -> Any:
            raise MemoryError

        monkeypatch.setattr(Scorer, "score", lose_it)
        with pytest.raises(OutputError, match="the model on cpu was lost"):
            Run(config(), clean_trace, bundle_path).execute()
