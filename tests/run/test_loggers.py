"""What loggers recorded, from traces and interfaces to lines."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from ecustream.capture.files import open_capture
from ecustream.config import load_config
from ecustream.decode.names import NameTable
from ecustream.knowledge import DEMO_BUNDLE
from ecustream.ledger import Ledger
from ecustream.run.lanes import Lane
from ecustream.run.live_lanes import LiveLane, open_live_lanes
from ecustream.run.source import TraceLines
from ecustream.scoring.manifest import read_bundle
from ecustream.stages import StageClock
from ecustream.traffic import Frame, Line
from tests.capture.capture_files import pcap_header, pcap_record
from tests.capture.logger_frames import MS, Recorded, S, cmp, cmp_message, pdu_frame, tecmp
from tests.namespaces import cable, needs_network, sender, wait_for
from tests.running import OFFLINE, run_offline


def frames_of(path: Path) -> list[Frame]:
    """All frames of a trace."""
    with open_capture(path, Ledger()) as reader:
        return [frame for batch in reader for frame in batch]


def recorded_by_a_logger(trace: Path, out: Path, protocol: str) -> Path:
    """The trace as a logger sends it: in batches of each half of its frames, which come up to 40 ms late."""
    batches: list[list[Frame]] = [[], []]
    carriers: list[tuple[int, list[Recorded]]] = []
    for i, frame in enumerate(frames_of(trace)):
        batch = batches[i % 2]
        if batch and (frame.time_ns - batch[0].time_ns > 40 * MS or sum(len(f.data) for f in batch) > 1200):
            carriers.append((frame.time_ns, [Recorded(0x1001, f.time_ns, f.data) for f in batch]))
            batch.clear()
        batch.append(frame)
    end_ns = max(batch[-1].time_ns for batch in batches)
    carriers += [(end_ns, [Recorded(0x1001, f.time_ns, f.data) for f in batch]) for batch in batches]
    with out.open("wb") as file:
        file.write(pcap_header())
        for counter, (time_ns, entries) in enumerate(carriers):
            data = (
                tecmp(entries, counter)
                if protocol == "tecmp"
                else cmp([cmp_message(entry) for entry in entries], counter)
            )
            file.write(pcap_record(Frame(1, time_ns, "", 1, data, len(data))))
    return out


def lines_of(
    path: Path, names: NameTable, loggers: dict[str, str] | None = None
) -> tuple[list[Line], Ledger]:
    """The lines of a trace, without the numbers of their frames, and its books."""
    ledger = Ledger()
    with closing(TraceLines(path, ledger, names=names, loggers=loggers)) as lines:
        found = [msgspec.structs.replace(line, frame=0) for batch in lines for line in batch]
        assert not lines.losses
    ledger.end("lines", "scored", len(found))
    assert ledger.balanced(), ledger.sentences()
    return found, ledger


@pytest.mark.parametrize("protocol", ["tecmp", "cmp"])
def test_a_trace_of_a_logger_gives_the_lines_of_the_bus(
    clean_trace: Path, tmp_path: Path, protocol: str
) -> None:
    """The same lines in the same order with the same times, although they come in batches."""
    names = NameTable.load(clean_trace.with_suffix(".names.csv"))
    expected, _ = lines_of(clean_trace, names)
    (source,) = {line.stream.source for line in expected}
    wrapped = recorded_by_a_logger(clean_trace, tmp_path / "logger.pcap", protocol)
    found, ledger = lines_of(wrapped, names, {"0x1001": source})
    assert len(found) > 10_000
    assert found == expected
    assert ledger.notes == {}
    assert ledger.ends["frames"]["filtered{logger_carrier}"] == len(frames_of(wrapped))


def test_a_run_over_a_trace_of_a_logger(faulty_trace: Path, bundle_path: Path, tmp_path: Path) -> None:
    """It tells of the same episodes as the trace of the bus does."""
    wrapped = recorded_by_a_logger(faulty_trace, tmp_path / "logger.pcap", "tecmp")
    _, expected = run_offline(faulty_trace, bundle_path, tmp_path / "bus.jsonl")
    config = load_config(None, {**OFFLINE, "capture.loggers": {"4097": expected[0].source}})
    summary, events = run_offline(wrapped, bundle_path, tmp_path / "logger.jsonl", config)
    assert summary.ledger.balanced()
    assert [(e.phase, e.kind, e.start_ns, e.end_ns, e.lines) for e in events] == [
        (e.phase, e.kind, e.start_ns, e.end_ns, e.lines) for e in expected
    ]


def test_a_trace_that_is_not_read_to_its_end(clean_trace: Path, tmp_path: Path) -> None:
    """What still waited for its turn is in the books."""
    wrapped = recorded_by_a_logger(clean_trace, tmp_path / "logger.pcap", "tecmp")
    ledger = Ledger()
    lines = TraceLines(wrapped, ledger)
    next(iter(lines))
    lines.close()
    assert ledger.ends["frames"]["filtered{logger_abandoned}"] > 0
    assert ledger.balanced(["frames", "pdus"])


def test_losses_and_clock_steps_of_a_trace(tmp_path: Path) -> None:
    """They are told each by itself, and no delta time reaches over a step."""
    path = tmp_path / "logger.pcap"
    start_ns = 1_700_000_000 * S
    with path.open("wb") as file:
        file.write(pcap_header())
        for i in range(100):
            counter = i + 3 * (i >= 40)
            time_ns = start_ns + i * 10 * MS - (start_ns - 3 * S if i >= 70 else 0)
            data = tecmp([Recorded(1, time_ns, pdu_frame(5))], counter)
            file.write(pcap_record(Frame(1, start_ns + i * 10 * MS, "", 1, data, len(data))))
    with closing(TraceLines(path, Ledger())) as lines:
        found = [line for batch in lines for line in batch]
        assert list(lines.losses) == [(41, 3)]
        assert lines.breaks_up_to(69) == []
        ((number, why),) = lines.breaks_up_to(70)
        assert number == 70
        assert "clock" in why
        assert lines.breaks_up_to(99) == []
    assert [line.frame for line in found if line.delta_ns is None] == [1, 71]
    assert {line.delta_ns for line in found if line.delta_ns is not None} == {10 * MS}


@pytest.fixture
def lane() -> Iterator[LiveLane]:
    """A lane on one end of a cable, which is read."""
    with cable("loggers"):
        config = load_config(None, {"capture.loggers": {"0x1001": "ETH1"}})
        info, clock = read_bundle(DEMO_BUNDLE).info, StageClock(enabled=False)
        (made,) = open_live_lanes(config, info, ["b0"], threading.Condition(), clock, print)
        assert isinstance(made, LiveLane)
        made.start()
        made.go()
        wait_for(lambda: made.reached.time_ns)
        yield made
        made.stop()
        made.close()
        assert made.ledger.balanced(["frames", "pdus"]), made.ledger.sentences()


def take(lane: Lane, count: int) -> list[Line]:
    """So many lines, once they are there."""
    wait_for(lambda: lane.ring.waiting().lines >= count)
    return lane.ring.take(10**6)[0]


@needs_network
class TestLive:
    def test_frames_of_a_logger_among_others(self, lane: LiveLane) -> None:
        """All come in the order of their times; the last ones although nothing follows."""
        start_ns = time.time_ns()
        expected = []
        with sender("a0") as wire:
            for i in range(20):
                now_ns = time.time_ns()
                recorded = [
                    Recorded(0x1001, now_ns - ago_ns, pdu_frame(i, ago_ns)) for ago_ns in (9 * MS, MS)
                ]
                expected += [now_ns - 9 * MS, now_ns - MS]
                wire.send(tecmp(recorded, i))
                wire.send(pdu_frame(1000))
                time.sleep(0.005)
        lines = take(lane, 60)
        assert [line.time_ns for line in lines] == sorted(line.time_ns for line in lines)
        recorded_ns = [line.time_ns for line in lines if line.stream.source == "ETH1"]
        assert recorded_ns == sorted(expected)
        assert sum(line.stream.source == "b0" for line in lines) == 20
        assert lane.ledger.ends["frames"] == {"decoded": 60, "filtered{logger_carrier}": 20}
        assert lane.ledger.notes == {}
        # Time goes on although nothing comes, behind that of this machine.
        wait_for(lambda: lane.reached.time_ns > lines[-1].time_ns + 200 * MS)
        assert start_ns < lane.reached.time_ns < time.time_ns()
        assert lane.passed(lane.reached)[0] == []

    def test_a_logger_by_another_clock(self, lane: LiveLane) -> None:
        """It has just been switched on: its times count, the break is told, and time goes on by its clock."""
        uptime_ns = 60 * S - time.time_ns()
        with sender("a0") as wire:
            wire.send(pdu_frame(1000))
            (before,) = take(lane, 1)
            wire.send(tecmp([Recorded(0x1001, time.time_ns() + uptime_ns, pdu_frame(5))]))
            wire.send(pdu_frame(1000))
        after = take(lane, 2)
        assert before.time_ns > 10**18
        assert all(60 * S < line.time_ns < 100 * S for line in after)
        wait_for(lambda: lane.reached.breaks == 1 and lane.reached.time_ns > after[-1].time_ns)
        ((piece, why),) = lane.pieces(after, 0)
        assert piece == after
        assert "the clock of logger 0x0080 is" in why
        assert [line.delta_ns for line in after] == [None, None]
        breaks, passed_ns = lane.passed(lane.reached)
        assert breaks == []
        assert after[-1].time_ns < passed_ns < time.time_ns() + uptime_ns

    def test_a_break_before_lines_that_wait(self, lane: LiveLane) -> None:
        """It may be told before the frames after it have waited for their turn, and once."""
        with sender("a0") as wire:
            wire.send(tecmp([Recorded(0x1001, 60 * S, pdu_frame(5))]))
        wait_for(lambda: lane.reached.breaks == 1)
        early = lane.passed(lane.reached)
        after = take(lane, 1)
        told = [broken.why for broken in early[0]] + [why for _, why in lane.pieces(after, 0) if why]
        assert len(told) == 1

    def test_losses_of_a_logger(self, lane: LiveLane) -> None:
        """They are told before the frame after them."""
        with sender("a0") as wire:
            for counter in (0, 1, 5, 6):
                wire.send(tecmp([Recorded(0x1001, time.time_ns(), pdu_frame(5))], counter))
        lines = take(lane, 4)
        gaps = [(part[0].frame, why) for part, why in lane.pieces(lines, 0) if why]
        assert gaps == [(3, "the capture lost 3 frames before frame 3")]
        assert lane.ledger.notes == {"logger_messages_lost": 3}
