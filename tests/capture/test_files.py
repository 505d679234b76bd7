"""Opening captures: choice by content, gzip, pipes, refusals, and memory that stays flat."""

import gzip
import os
import threading
import tracemalloc
import zlib
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.capture import gunzip, window
from ecustream.capture.files import open_capture
from ecustream.errors import InputError
from ecustream.ledger import Ledger
from ecustream.traffic import Frame
from tests.capture.capture_files import (
    enhanced,
    interface,
    pcap_header,
    pcap_record,
    read_bytes,
    read_path,
    section,
)

FRAMES = [Frame(n + 1, 10**18 + n, "eth", 1, os.urandom(40), 40) for n in range(5)]
PCAP = pcap_header() + b"".join(map(pcap_record, FRAMES))
RECORDED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "byte 0: the file is empty"),
        (b"\xa1", "byte 0: not a pcap or pcapng capture, it begins with a1"),
        (b"\x0a\x0d", "byte 0: not a pcap or pcapng capture, it begins with 0a 0d"),
        (b"PK\x03\x04" + bytes(99), "byte 0: not a pcap or pcapng capture, it begins with 50 4b 03 04"),
        (PCAP[:20], "byte 20: the file ends within the pcap header"),
        (section()[:20], "byte 20: the file ends within the section header"),
        (gzip.compress(b""), "unzipped byte 0: the file is empty"),
        (gzip.compress(b"text"), "unzipped byte 0: not a pcap or pcapng capture, it begins with 74 65 78 74"),
        (b"\x1f\x8b\x07\x00", "unzipped byte 0: gzip is corrupt at byte "),
        (b"\x1f\x8b", "unzipped byte 0: gzip ends early at byte 2 on disk"),
    ],
)
def test_what_is_no_capture_is_refused_in_one_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    """The sentence names the file and the byte."""
    path = tmp_path / "trace.pcap"
    path.write_bytes(content)
    with pytest.raises(InputError) as refusal:
        open_capture(path, Ledger())
    assert str(refusal.value).startswith(f"{path}: {sentence}")


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    """The sentence names the path and the system's reason."""
    with pytest.raises(InputError, match=r"none\.pcap: cannot be opened: No such file"):
        open_capture(tmp_path / "none.pcap", Ledger())
    with pytest.raises(InputError, match="cannot be opened: Is a directory"):
        open_capture(tmp_path, Ledger())


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    "content", [PCAP, section() + interface("eth") + b"".join(enhanced(f.data, f.time_ns) for f in FRAMES)]
)
def test_the_content_decides_and_not_the_suffix(tmp_path: Path, content: bytes, zipped: bool) -> None:
    """A gzip'd pcapng named .pcap is read as what it is; progress ends at the size on disk."""
    path = tmp_path / "misnamed.pcap"
    path.write_bytes(gzip.compress(content) if zipped else content)
    with open_capture(path, Ledger()) as reader:
        assert reader.total_bytes == path.stat().st_size
        assert [frame for batch in reader for frame in batch] == FRAMES
        assert reader.bytes_read == reader.total_bytes
        assert reader.damage == []


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.integers(0, len(PCAP)), max_size=3),
    padding=st.integers(0, 600),
    piece=st.integers(1, 300),
    max_out=st.integers(1, 100),
)
def test_gzip_members_in_a_row_read_as_one_file(
    cuts: list[int], padding: int, piece: int, max_out: int
) -> None:
    """As gzip does: members are joined and zero padding behind them is skipped, however reads are split."""
    at = [0, *sorted(cuts), len(PCAP)]
    content = b"".join(gzip.compress(PCAP[a:b]) for a, b in pairwise(at)) + bytes(padding)
    with patch.object(window, "COMPRESSED_PIECE", piece), patch.object(gunzip, "MAX_OUT", max_out):
        outcome = read_bytes(content)
    assert outcome.frames == FRAMES
    assert outcome.damage == []


def test_gzip_cut_at_any_byte_keeps_the_frames_before_it() -> None:
    """A cut gzip file is refused where not even the header can be read, and else read as far as it goes."""
    content = gzip.compress(PCAP)
    counts: set[int] = set()
    for cut in range(1, len(content)):
        try:
            outcome = read_bytes(content[:cut])
        except InputError:
            assert not counts, "once a cut file can be opened, a longer one can, too"
            continue
        assert outcome.frames == FRAMES[: len(outcome.frames)]
        assert outcome.unreadable == {"truncated_gzip": 1}
        assert f"gzip ends early at byte {cut} on disk" in outcome.damage[0]
        counts.add(len(outcome.frames))
    assert counts == set(range(len(FRAMES) + 1))


def test_corrupt_gzip_keeps_everything_before_the_damage() -> None:
    """Stored, not compressed, every byte before the damage can be read, though it is one piece on disk."""
    # A stored deflate block begins behind the 10 bytes of gzip header with 5 bytes of its own.
    half = len(PCAP) - 30
    deflate = zlib.compressobj(0, wbits=31)
    content = deflate.compress(PCAP[:half]) + deflate.flush(zlib.Z_FULL_FLUSH) + b"\xff" * 500
    outcome = read_bytes(content)
    assert outcome.frames == FRAMES[:4]
    assert outcome.unreadable == {"corrupt_gzip": 1}
    assert f"gzip is corrupt at byte {len(content) - 500} on disk" in outcome.damage[0]


def test_a_wrong_gzip_checksum_is_told_after_all_frames() -> None:
    """All frames came out, but some of them may be wrong."""
    content = bytearray(gzip.compress(PCAP))
    content[-8] ^= 1
    outcome = read_bytes(bytes(content))
    assert len(outcome.frames) == len(FRAMES)
    assert outcome.unreadable == {"corrupt_gzip": 1}


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_flipped_gzip_bytes_never_raise(data: st.DataObject) -> None:
    """Whatever is wrong inside gzip is told or refused."""
    content = bytearray(gzip.compress(PCAP))
    at = data.draw(st.integers(2, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    try:
        read_bytes(bytes(content))
    except InputError:
        return


def test_a_pipe_hands_over_what_is_there_before_it_asks_for_more(tmp_path: Path) -> None:
    """Two packets in a pipe that stays open are delivered at once; there is no total size."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    read_on = threading.Event()

    def write() -> None:
        with path.open("wb", buffering=0) as pipe:
            pipe.write(PCAP[: 24 + 2 * 56 + 7])
            assert read_on.wait(60)
            pipe.write(PCAP[24 + 2 * 56 + 7 :])

    writer = threading.Thread(target=write)
    writer.start()
    with open_capture(path, Ledger()) as reader:
        assert reader.total_bytes is None
        batches = iter(reader)
        assert next(batches) == FRAMES[:2]
        read_on.set()
        assert [frame for batch in batches for frame in batch] == FRAMES[2:]
        assert reader.bytes_read == len(PCAP)
    writer.join()


@pytest.mark.parametrize("zipped", [False, True])
def test_memory_stays_flat(tmp_path: Path, zipped: bool) -> None:
    """A trace of 50 MB, in gzip a bomb of 50 kB, is read within 8 MB."""
    path = tmp_path / "trace"
    record = pcap_record(Frame(1, 0, "eth", 1, bytes(200_000), 200_000))
    with gzip.open(path, "wb", 1) if zipped else path.open("wb") as file:
        file.write(pcap_header())
        for _ in range(250):
            file.write(record)
    tracemalloc.start()
    try:
        with open_capture(path, Ledger()) as reader:
            count = sum(len(batch) for batch in reader)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 250
    assert peak < 8_000_000


def test_batches_are_large_and_bounded(tmp_path: Path) -> None:
    """Whoever decodes gets about a thousand frames at a time, in pcap and in pcapng."""
    for content in (
        pcap_header() + pcap_record(FRAMES[0]) * 5000,
        section() + interface() + enhanced(b"x" * 40) * 5000,
    ):
        path = tmp_path / "trace"
        path.write_bytes(content)
        with open_capture(path, Ledger()) as reader:
            sizes = [len(batch) for batch in reader]
        assert sum(sizes) == 5000
        assert max(sizes) <= 1024
        assert len(sizes) <= 8


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded traffic beside the repository is not here")
def test_recorded_traces_read_whole() -> None:
    """Real traffic of a car: as many frames as its README says, on ETH1, in order of time."""
    outcome = read_path(RECORDED / "volvo_v40" / "train.pcapng.gz")
    assert len(outcome.frames) == 144_015
    assert outcome.damage == []
    assert {frame.source for frame in outcome.frames} == {"ETH1"}
    assert 89 < (outcome.frames[-1].time_ns - outcome.frames[0].time_ns) / 1e9 < 91
