"""A whole run, from a trace to events, as a library user and the command line drive it."""

import gzip
import json
import os
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq

from ecustream.capture.pcapng import ENHANCED_PACKET
from ecustream.config import Config, load_config
from ecustream.errors import BundleError, EcustreamError, InputError, OutputError
from ecustream.service import Run
from tests.capture.capture_files import block, option
from tests.running import OFFLINE, run_offline, spans
from training.labels import read_labels
from training.metrics import match
from training.simulate import draw_vehicle, write_trace


def config(**keys: Any) -> Config:
    """A configuration without sockets; `a__b=1` sets `a.b`."""
    return load_config(None, OFFLINE | {key.replace("__", "."): value for key, value in keys.items()})


class TestWholeRun:
    def test_finds_the_faults_and_balances(
        self, faulty_trace: Path, bundle_path: Path, tmp_path: Path
    ) -> None:
        """Most labelled faults become episodes, and every frame, PDU, line and event ends in one counter."""
        summary, events = run_offline(faulty_trace, bundle_path, tmp_path / "events.jsonl")
        labels = read_labels(faulty_trace.with_suffix(".labels.jsonl"))
        found = match(spans(events), labels)
        assert len(labels) >= 4
        assert sum(found.found) >= 0.7 * len(labels)
        assert found.false_episodes <= 1
        assert summary.ledger.balanced()
        assert summary.ledger.ends["lines"]["scored"] == summary.ledger.entered["pdus"] > 10_000
        assert summary.ledger.ends["events"]["published"] == len(events)

    def test_clean_traffic_of_the_same_vehicle_is_quiet(
        self, clean_trace: Path, bundle_path: Path, tmp_path: Path
    ) -> None:
        """The traffic that it was fitted on has no episodes."""
        _, events = run_offline(clean_trace, bundle_path, tmp_path / "events.jsonl")
        assert events == []

    def test_events_follow_the_contract(self, faulty_trace: Path, bundle_path: Path, tmp_path: Path) -> None:
        """Sequence numbers have no gap, ids pair open with close, and offline times are capture times."""
        summary, events = run_offline(faulty_trace, bundle_path, tmp_path / "events.jsonl")
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert {event.run for event in events} == {summary.run}
        opened = [event.id for event in events if event.phase == "open"]
        closed = [event.id for event in events if event.phase == "close"]
        assert sorted(opened) == sorted(closed) == sorted(set(opened))
        assert all(event.published_ns is None and event.start_ns <= event.decided_ns for event in events)
        assert all(event.source == "ETH1" and event.pdus and event.reason for event in events)

    def test_repeated_run_gives_the_same_bytes(
        self, faulty_trace: Path, bundle_path: Path, tmp_path: Path
    ) -> None:
        """The event log and the score log of an offline run can be repeated to the byte."""
        for name in ("a", "b"):
            Run(
                config(),
                faulty_trace,
                bundle_path,
                events=str(tmp_path / f"{name}.jsonl"),
                score_log=tmp_path / f"{name}.csv",
            ).execute()
        assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes() != b""
        assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()

    @pytest.mark.parametrize(
        ("speed", "chunk", "max_wait_ms"), [("max", 7, 5), ("20", 64, 5), ("15", 256, 60)]
    )
    def test_speed_and_chunks_do_not_change_events(
        self,
        faulty_trace: Path,
        bundle_path: Path,
        tmp_path: Path,
        speed: str,
        chunk: int,
        max_wait_ms: float,
    ) -> None:
        """Other chunks, paces and longest waits give the events of full speed, up to rounding."""
        _, expected = run_offline(faulty_trace, bundle_path, tmp_path / "max.jsonl")
        settings = config(scoring__speed=speed, scoring__chunk_lines=chunk, scoring__max_wait_ms=max_wait_ms)
        _, events = run_offline(faulty_trace, bundle_path, tmp_path / "other.jsonl", settings)
        assert [(e.phase, e.kind, e.start_ns, e.end_ns, e.pdus) for e in events] == [
            (e.phase, e.kind, e.start_ns, e.end_ns, e.pdus) for e in expected
        ]
        for event, other in zip(events, expected, strict=True):
            assert event.score.evidence == pytest.approx(other.score.evidence, abs=2e-2)

    def test_csv_gives_the_events_of_the_capture(
        self, faulty_trace: Path, bundle_path: Path, tmp_path: Path
    ) -> None:
        """The same traffic in the paper's CSV columns is scored alike (its times are cut to 1 µs)."""
        summary, events = run_offline(faulty_trace, bundle_path, tmp_path / "pcap.jsonl")
        from ecustream.decode.names import NameTable
        from ecustream.ledger import Ledger
        from ecustream.run.source import TraceLines

        names = NameTable.load(faulty_trace.with_suffix(".names.csv"))
        rows = ["timestamp,pduName,source,sourceIp,sourcePort,destIp,destPort,activityState,deltaTime"]
        for lines in TraceLines(faulty_trace, Ledger(), names=names):
            for line in lines:
                s = line.stream
                rows.append(
                    f"{line.time_ns // 1000},{s.name},{s.source},{s.src},{s.sport},{s.dst},{s.dport},1,0"
                )
        path = tmp_path / "trace.csv.gz"
        path.write_bytes(gzip.compress("\n".join(rows).encode()))
        csv_summary, csv_events = run_offline(path, bundle_path, tmp_path / "csv.jsonl")
        assert csv_summary.ledger.entered["lines"] == summary.ledger.entered["lines"]
        assert csv_summary.ledger.balanced()
        assert [e.pdus[0].name for e in csv_events if e.phase == "open"] == [
            e.pdus[0].name for e in events if e.phase == "open"
        ]

    def test_papers_filter_is_selectable(self, faulty_trace: Path, bundle_path: Path, tmp_path: Path) -> None:
        """With the perplexity filter every event tells of perplexity in consecutive lines."""
        settings = config(detect__filter="perplexity", detect__perplexity_threshold=40.0)
        _, events = run_offline(faulty_trace, bundle_path, tmp_path / "events.jsonl", settings)
        assert events
        assert all("lines in a row" in event.reason for event in events)


class TestEventSocket:
    def test_subscriber_gets_what_the_log_has(
        self, faulty_trace: Path, bundle_path: Path, tmp_path: Path
    ) -> None:
        """A bare subscriber reads the same events from the socket, and the status ends with `done`."""
        settings = load_config(
            None, {"publish.pub": "tcp://127.0.0.1:*", "publish.reply": "tcp://127.0.0.1:*"}
        )
        log = tmp_path / "events.jsonl"
        work = Run(settings, faulty_trace, bundle_path, events=str(log))
        assert work.pub_url is not None
        context = zmq.Context()
        socket = context.socket(zmq.SUB)
        socket.subscribe(b"event/")
        socket.subscribe(b"status/")
        socket.rcvtimeo = 20_000
        socket.connect(work.pub_url)
        # PUB tells nobody when a subscription has arrived; on loopback this is ample.
        time.sleep(0.5)
        thread = threading.Thread(target=work.execute)
        thread.start()
        received, state = [], ""
        while state != "done":
            topic, body = socket.recv_multipart()
            message = json.loads(body)
            if topic.startswith(b"event/"):
                assert topic.decode() == f"event/{message['kind']}/ETH1/"
                received.append(message)
            else:
                state = message["state"]
        thread.join()
        socket.close()
        context.term()
        assert received == [json.loads(line) for line in log.read_bytes().splitlines()]

    def test_a_status_though_no_line_is_scored(self, clean_trace: Path, bundle_path: Path) -> None:
        """The first one is repeated until there are lines; in a quiet trace rate and lag are 0."""
        settings = load_config(
            None,
            {"publish.pub": "tcp://127.0.0.1:*", "publish.reply": "tcp://127.0.0.1:*", "scoring.speed": 1e-4},
        )
        work = Run(settings, clean_trace, bundle_path)
        assert work.pub_url is not None
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.subscribe(b"status/")
            socket.rcvtimeo = 20_000
            socket.connect(work.pub_url)
            statuses = [json.loads(socket.recv_multipart()[1]) for _ in range(2)]
            assert [status["state"] for status in statuses] == ["starting"] * 2
            assert statuses[0]["wall_ns"] < statuses[1]["wall_ns"]
            thread = threading.Thread(target=work.execute)
            thread.start()
            while (statuses[-1]["state"], statuses[-1]["lines_per_s"]) != ("running", 0.0):
                statuses.append(json.loads(socket.recv_multipart()[1]))
            assert statuses[-1]["lag_s"] == 0.0
            work.stop()
            work.stop()
            thread.join()
            while socket.poll(500):
                statuses.append(json.loads(socket.recv_multipart()[1]))
        assert statuses[-1]["state"] == "done"


def damaged(trace: Path, tmp_path: Path, change: Callable[[bytearray], bytearray]) -> Path:
    path = tmp_path / "damaged.pcapng"
    path.write_bytes(change(bytearray(trace.read_bytes())))
    return path


class TestBadInput:
    def test_truncated_trace_is_scored_as_far_as_it_goes(
        self, faulty_trace: Path, bundle_path: Path, tmp_path: Path
    ) -> None:
        """A trace cut in the middle of a packet loses that packet only, says so, and balances."""
        size = faulty_trace.stat().st_size // 2
        path = damaged(faulty_trace, tmp_path, lambda data: data[: size + 3])
        summary, _ = run_offline(path, bundle_path, tmp_path / "events.jsonl")
        assert summary.ledger.ends["lines"]["scored"] > 5_000
        assert summary.ledger.ended("frames", "unreadable") == 1
        assert summary.ledger.balanced()
        assert any(str(path) in problem for problem in summary.problems)

    def test_pdu_longer_than_its_datagram_is_counted(
        self, faulty_trace: Path, bundle_path: Path, tmp_path: Path
    ) -> None:
        """A PDU whose length points past the datagram is damage, not a line, and the books balance."""
        data = bytearray(faulty_trace.read_bytes())
        at = data.find(struct.pack(">HH", 42994, 42557), len(data) // 2) + 8
        data[at + 4 : at + 8] = b"\xff\xff\xff\xff"
        path = tmp_path / "long.pcapng"
        path.write_bytes(data)
        summary, _ = run_offline(path, bundle_path, tmp_path / "events.jsonl")
        assert summary.ledger.ended("pdus", "unreadable") == 1
        assert summary.ledger.balanced()

    @pytest.mark.parametrize("content", [b"", b"this is no capture, it is a letter to a friend"])
    def test_not_a_capture(self, content: bytes, bundle_path: Path, tmp_path: Path) -> None:
        """An empty file and a text are refused in a sentence with the file's name."""
        path = tmp_path / "trace.pcap"
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"trace\.pcap"):
            Run(config(), path, bundle_path)

    def test_trace_without_a_pdu(self, bundle_path: Path, tmp_path: Path) -> None:
        """A capture of an unknown link type has no PDU, which is said with what became of its frames."""
        path = tmp_path / "trace.pcap"
        header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 147)
        path.write_bytes(header + struct.pack("<IIII", 1, 0, 60, 60) + bytes(60))
        with pytest.raises(InputError, match=r"trace\.pcap: there is no PDU .* 1 unreadable\{linktype_147\}"):
            Run(config(), path, bundle_path).execute()

    def test_clock_that_goes_back_is_a_gap(
        self, faulty_trace: Path, bundle_path: Path, tmp_path: Path
    ) -> None:
        """Two traces end to end, so that time jumps back, give a capture_gap and no flood of episodes."""
        data = faulty_trace.read_bytes()
        path = tmp_path / "twice.pcapng"
        path.write_bytes(data + data)
        once, _ = run_offline(faulty_trace, bundle_path, tmp_path / "once.jsonl")
        summary, events = run_offline(path, bundle_path, tmp_path / "twice.jsonl")
        assert summary.episodes["capture_gap"] == 1
        assert any("went back" in event.reason for event in events)
        assert summary.episodes.total() <= 2 * once.episodes.total() + 2
        assert summary.ledger.balanced()

    def test_a_replay_goes_on_at_its_pace_after_the_clock_went_back(
        self, faulty_trace: Path, bundle_path: Path, tmp_path: Path
    ) -> None:
        """It tells of no silence, skips nothing, is never overloaded, and finds what full speed finds."""
        data = faulty_trace.read_bytes()
        path = tmp_path / "twice.pcapng"
        path.write_bytes(data + data)
        _, expected = run_offline(path, bundle_path, tmp_path / "max.jsonl")
        settings = config(scoring__speed=40, ring__when_full="skip", ring__lines=8192)
        summary, events = run_offline(path, bundle_path, tmp_path / "paced.jsonl", settings)
        assert summary.ledger.ended("lines", "overwritten") == 0
        assert [(e.phase, e.kind, e.start_ns) for e in events] == [
            (e.phase, e.kind, e.start_ns) for e in expected
        ]

    def test_frames_that_the_logger_lost_are_a_gap(
        self, faulty_trace: Path, bundle_path: Path, tmp_path: Path
    ) -> None:
        """Each packet that tells of lost ones before it gives a capture_gap there, and the books balance."""
        blocks, frames, at = [], 0, 0
        numbers: list[int] = []
        content = faulty_trace.read_bytes()
        while at < len(content):
            kind, length = struct.unpack_from("<II", content, at)
            body = content[at + 8 : at + length - 4]
            frames += kind == ENHANCED_PACKET
            # A frame without PDUs (gPTP) would tell of the loss only with the next one.
            has_pdus = kind == ENHANCED_PACKET and body[32:34] != b"\x88\xf7"
            if has_pdus and frames >= (500, 501, 2000, 2**32)[len(numbers)]:
                numbers.append(frames)
                body += option(4, struct.pack("<Q", frames))
            blocks.append(block(kind, body))
            at += length
        path = tmp_path / "lossy.pcapng"
        path.write_bytes(b"".join(blocks))
        summary, events = run_offline(path, bundle_path, tmp_path / "lossy.jsonl")
        gaps = [event for event in events if event.kind == "capture_gap" and event.phase == "open"]
        assert [event.reason for event in gaps] == [
            f"the capture lost {number:,} frames before frame {number}" for number in numbers
        ]
        assert summary.ledger.ended("frames", "kernel_dropped") == sum(numbers) > 3000
        assert summary.ledger.balanced()

    def test_bundle_of_another_vehicle(self, clean_trace: Path, bundle_path: Path, tmp_path: Path) -> None:
        """Traffic that the bundle does not know is refused with the share that it knows."""
        trace = tmp_path / "other.pcapng"
        write_trace(draw_vehicle("bench", seed=77), trace, seconds=3, drive=1)
        with pytest.raises(
            BundleError, match=r"another vehicle: it knows \d % of the first \d+ lines; fit one"
        ):
            Run(config(), trace, bundle_path).execute()

    def test_bus_of_another_name(self, clean_trace: Path, bundle_path: Path) -> None:
        """Traffic that the bundle would know under another bus name: the sentence says under which."""
        with pytest.raises(
            BundleError, match=r"it knows 0 % of the first \d+ lines, .*: give --source ETH1$"
        ):
            Run(config(input__source="ETH9"), clean_trace, bundle_path).execute()

    def test_damaged_bundle(self, clean_trace: Path, bundle_path: Path, tmp_path: Path) -> None:
        """A bundle with one byte changed is refused, naming the file."""
        copy = tmp_path / "bundle"
        copy.mkdir()
        for file in bundle_path.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
        weights = bytearray((copy / "model.safetensors").read_bytes())
        weights[-1] ^= 1
        (copy / "model.safetensors").write_bytes(weights)
        with pytest.raises(BundleError, match=r"model\.safetensors"):
            Run(config(), clean_trace, copy)

    def test_unwritable_events_file(self, clean_trace: Path, bundle_path: Path, tmp_path: Path) -> None:
        """An events file in a folder that is not there is refused before anything runs."""
        with pytest.raises(OutputError, match="nowhere"):
            Run(config(), clean_trace, bundle_path, events=str(tmp_path / "nowhere" / "events.jsonl"))

    def test_busy_socket(self, clean_trace: Path, bundle_path: Path, tmp_path: Path) -> None:
        """A second run on the same address is refused with that address."""
        first = Run(
            load_config(None, {"publish.pub": "tcp://127.0.0.1:*", "publish.reply": "tcp://127.0.0.1:*"}),
            clean_trace,
            bundle_path,
        )
        url = first.pub_url
        assert url is not None
        settings = load_config(None, {"publish.pub": url, "publish.reply": "tcp://127.0.0.1:*"})
        with pytest.raises(EcustreamError, match=url):
            Run(settings, clean_trace, bundle_path)
        first.execute()

    def test_stop_drains_and_balances(self, clean_trace: Path, bundle_path: Path, tmp_path: Path) -> None:
        """A run that is stopped scores what was read, and its ledger balances."""
        work = Run(config(scoring__speed=4), clean_trace, bundle_path)
        timer = threading.Timer(1.5, work.stop)
        timer.start()
        summary = work.execute()
        timer.join()
        assert summary.interrupted
        assert summary.ledger.balanced()
        assert summary.ledger.ends["lines"]["scored"] > 0

    @pytest.mark.parametrize("speed", ["max", "1"])
    def test_stopped_twice_it_ends_though_its_pipe_is_silent(
        self, clean_trace: Path, bundle_path: Path, tmp_path: Path, speed: str
    ) -> None:
        """The reader that waits for the pipe is left behind, and the ledger balances."""
        pipe = tmp_path / "trace.fifo"
        os.mkfifo(pipe)
        with os.fdopen(os.open(pipe, os.O_RDWR), "wb", buffering=0) as writer:
            writer.write(clean_trace.read_bytes()[:50_000])
            work = Run(config(scoring__speed=speed), pipe, bundle_path)
            thread = threading.Thread(target=work.execute, daemon=True)
            thread.start()
            time.sleep(0.5)
            work.stop()
            work.stop()
            thread.join(20)
            assert not thread.is_alive()

    def test_dropped_in_the_middle_of_a_replay_it_balances(
        self, clean_trace: Path, bundle_path: Path, tmp_path: Path
    ) -> None:
        """What the pacer holds back when a run is stopped twice ends as cancelled."""
        work = Run(config(scoring__speed=4), clean_trace, bundle_path)
        timers = [threading.Timer(1.5, work.stop), threading.Timer(1.5, work.stop)]
        for timer in timers:
            timer.start()
        summary = work.execute()
        assert summary.ledger.balanced(), summary.ledger.sentences()
