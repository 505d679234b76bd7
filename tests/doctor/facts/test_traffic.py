"""Seconds of traffic, from a trace and from the end of a cable."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from ecustream.capture import tpacket
from ecustream.capture.afpacket import PacketRing
from ecustream.config import CaptureConfig, Config, InputConfig
from ecustream.doctor.facts.traffic import Seen, listen, read_trace
from ecustream.doctor.judge.traffic import judge_known, ring_seconds
from ecustream.errors import ConfigError, InputError
from ecustream.ledger import Ledger
from ecustream.run.source import TraceLines
from ecustream.scoring.manifest import BundleInfo, read_bundle
from ecustream.traffic import Frame
from tests.capture.capture_files import pcap_header, pcap_record
from tests.capture.logger_frames import Recorded, S, pdu_frame, tecmp
from tests.namespaces import cable, needs_network, sender, wait_for
from tests.run.test_live_lanes import frames_of

CONFIG = Config(capture=CaptureConfig(ring_mib=4))


@pytest.fixture(scope="module")
def info(bundle_path: Path) -> BundleInfo:
    """Of the bundle that was fitted to the clean trace."""
    return read_bundle(bundle_path).info


class TestTrace:
    def test_what_loggers_recorded(self, info: BundleInfo, tmp_path: Path) -> None:
        """It has the bus names of the configuration, as in a run."""
        time_ns = 1_700_000_000 * S
        data = tecmp([Recorded(1, time_ns, pdu_frame(5))], 0)
        path = tmp_path / "logger.pcap"
        path.write_bytes(pcap_header() + pcap_record(Frame(1, time_ns, "", 1, data, len(data))))
        config = Config(capture=CaptureConfig(loggers={"1": "ETH7"}))
        assert set(read_trace(config, info, path, 1.0).buses.values()) == {"ETH7"}

    def test_first_seconds(self, clean_trace: Path, info: BundleInfo) -> None:
        """The lines of its first two seconds are counted by PDU, and no others."""
        seen = read_trace(CONFIG, info, clean_trace, 2.0)
        lines = [line for batch in TraceLines(clean_trace, Ledger()) for line in batch]
        first = [line for line in lines if line.time_ns <= lines[0].time_ns + 2 * 10**9]
        ends = Counter((line.stream.src, line.stream.sport, line.stream.pdu_id) for line in first)
        assert sorted(seen.lines.values()) == sorted(ends.values())
        assert seen.seconds == pytest.approx((first[-1].time_ns - first[0].time_ns) / 1e9)
        assert 0 < seen.count < len(lines)

    def test_known(self, clean_trace: Path, info: BundleInfo) -> None:
        """The bundle knows the trace that it was made of, unless it is called another bus."""
        assert judge_known(read_trace(CONFIG, info, clean_trace, 40), info)[0].level == "ok"
        renamed = replace_source(CONFIG, "elsewhere")
        (finding,) = judge_known(read_trace(renamed, info, clean_trace, 40), info)
        (bus,) = {pdu.source for pdu in info.pdus}
        assert (finding.level, finding.advice) == ("problem", f"`--source {bus}`, or input.source")

    def test_no_trace(self, info: BundleInfo, tmp_path: Path) -> None:
        """A trace that cannot be read is refused as in a run."""
        (tmp_path / "x.pcap").write_bytes(b"no trace")
        with pytest.raises(InputError, match=r"x\.pcap"):
            read_trace(CONFIG, info, tmp_path / "x.pcap", 1)


def replace_source(config: Config, source: str) -> Config:
    return Config(capture=config.capture, input=InputConfig(source=source))


def datagrams(trace: Path) -> list[bytes]:
    """The first frames of a trace."""
    return [frame.data for frame in frames_of(trace)[:2000]]


@contextmanager
def sending(frames: Sequence[bytes]) -> Iterator[list[int]]:
    """Sends these again and again on a0, 200 a second at most; the list's one number is how many."""
    stop, sent = threading.Event(), [0]

    def play() -> None:
        with sender("a0") as wire:
            while not stop.wait(0.005):
                wire.send(frames[sent[0] % len(frames)])
                sent[0] += 1

    player = threading.Thread(target=play)
    player.start()
    try:
        yield sent
    finally:
        stop.set()
        player.join()


@needs_network
class TestInterface:
    @pytest.fixture(autouse=True)
    def network(self) -> Iterator[None]:
        """A cable with the ends `a0` and `b0`."""
        with cable("doctor-traffic"):
            yield

    def test_listens(self, clean_trace: Path, info: BundleInfo) -> None:
        """What is sent meanwhile is counted, on both ends alike; the bundle has another name for the bus."""
        with sending(datagrams(clean_trace)) as sent:
            wait_for(lambda: sent[0] > 10)
            first, second = listen(CONFIG, info, ["b0", "a0"], 0.6)
        for seen in (first, second):
            assert 0 < seen.frames < sent[0]
            assert seen.count >= seen.frames - seen.undecoded > 0
        assert first.seconds >= 0.6
        assert first.frame_bytes > 60 * first.frames
        assert first.before is not None
        assert first.after is not None
        assert 0 < first.after.rx_packets - first.before.rx_packets < sent[0]
        (finding,) = judge_known(first, info)
        assert "`--source " in (finding.advice or "")

    def test_known(self, clean_trace: Path, info: BundleInfo) -> None:
        """By the right name of the bus the bundle knows it."""
        bus = info.pdus[0].source
        with sending(datagrams(clean_trace)):
            (seen,) = listen(replace_source(CONFIG, bus), info, ["b0"], 0.5)
        assert judge_known(seen, info)[0].level == "ok"

    def test_silence(self, info: BundleInfo) -> None:
        """Where nothing comes nothing is counted, and frames that are no UDP are told apart from that."""
        (seen,) = listen(CONFIG, info, ["b0"], 0.1)
        assert (seen.count, seen.frames) == (0, 0)
        assert "none of them UDP" not in judge_known(seen, info)[0].says
        with sending([bytes(60)]) as sent:
            wait_for(lambda: sent[0] > 10)
            (seen,) = listen(CONFIG, info, ["b0"], 0.3)
        assert (seen.count, seen.frames) == (0, 0)
        assert "frames did, none of them UDP" in judge_known(seen, info)[0].says

    def test_no_such_interface(self, info: BundleInfo) -> None:
        """An interface that is not there is refused as in a run, and the others are given back."""
        with pytest.raises(ConfigError, match="nowhere0"):
            listen(CONFIG, info, ["b0", "nowhere0"], 0.1)

    def test_time_that_a_ring_holds(self, clean_trace: Path) -> None:
        """The time is that of the bytes that the kernel really fills, within a twentieth."""
        ring = PacketRing(socket.if_nametoindex("b0"), "b0", 4 << 20)
        ring.start()
        with sender("a0") as wire:
            for frame in frames_of(clean_trace)[:400]:
                wire.send(frame.data)
        time.sleep(0.1)
        ring.finish()
        blocks = [block for _, block in ring.take(64)]
        ring.close()
        frames = [frame for block in blocks for frame in tpacket.frames_of(block, 1, "b0", 1)]
        assert len(frames) > 300
        # As if all had come within a millisecond, so that blocks are full.
        seen = Seen("b0", 1e-3, frames=len(frames), frame_bytes=sum(len(frame.data) for frame in frames))
        filled_per_s = sum(map(len, blocks)) / 1e-3
        assert ring_seconds(seen, 4) == pytest.approx((4 << 20) / filled_per_s, rel=0.05)
