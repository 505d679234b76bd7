"""Traces and their labels become shards, or a sentence on what does not fit."""

from pathlib import Path

import numpy as np
import pytest

from ecustream.errors import InputError
from ecustream.traffic import Line
from training.base import Base, open_base
from training.labels import Label, beside, encode
from training.sharding import shard_clean, shard_labelled
from training.simulate import draw_vehicle, write_trace

HEADER = bytes.fromhex("d4c3b2a1 0200 0400 00000000 00000000 00000400 01000000")
"""A capture without packets."""


@pytest.fixture(scope="module")
def base(bundle_path: Path) -> Base:
    """The bundle whose tokens the traces become."""
    return open_base(bundle_path)


@pytest.fixture
def drives(tmp_path: Path) -> list[Path]:
    """A drive without labels, and one in which the logger lost frames after six seconds."""
    (tmp_path / "faults.toml").write_text('[[fault]]\nkind = "capture_loss"\nat_s = 6\nsize = 20\n')
    write_trace(draw_vehicle("bench"), tmp_path / "short.pcapng", seconds=1, drive=1)
    write_trace(
        draw_vehicle("bench"),
        tmp_path / "lossy.pcapng",
        seconds=8,
        drive=1,
        faults=str(tmp_path / "faults.toml"),
    )
    for name in ("short", "lossy"):
        (tmp_path / f"{name}.labels.jsonl").write_bytes(b"")
    return [tmp_path / "short.pcapng", tmp_path / "lossy.pcapng"]


def lines_of(base: Base, trace: Path) -> list[Line]:
    """All lines of a trace."""
    pieces = base.traces([trace]).read_pieces("reading")
    return [line for _, batches in pieces for lines in batches for line in lines]


def test_labelled_traces_are_cut_where_they_are_interrupted(
    base: Base, drives: list[Path], tmp_path: Path
) -> None:
    """Each piece has its trace's name, each line what its trace's labels say, on both sides of the cut."""
    short, lossy = (lines_of(base, drive) for drive in drives)
    start_ns, end_ns = lossy[10].time_ns, lossy[-10].time_ns
    name = lossy[11].stream.name
    beside(drives[1], "labels").write_bytes(encode(Label(start_ns, end_ns, "delay", [name])))
    traces = base.traces(drives)
    shards = shard_labelled(traces, base, tmp_path / "s", "labels")
    assert [piece.name for piece in shards.pieces] == ["short.pcapng", "lossy.pcapng", "lossy.pcapng"]
    assert [piece.sha256 for piece in shards.pieces] == [traces.sha256(drives[i]) for i in (0, 1, 1)]
    expected = [start_ns <= line.time_ns <= end_ns and line.stream.name == name for line in lossy]
    assert shards.labelled is not None
    np.testing.assert_array_equal(shards.labelled, [False] * len(short) + expected)
    cut = shards.pieces[2].first_line
    assert shards.labelled[:cut].any()
    assert shards.labelled[cut:].any()


def test_labels_of_every_trace_are_checked(base: Base, drives: list[Path], tmp_path: Path) -> None:
    """Missing, or of another time: the sentence names the file; no shards are left."""
    for drive in drives:
        file = beside(drive, "labels")
        file.write_bytes(encode(Label(0, 1, "delay")))
        with pytest.raises(InputError, match=rf"{file.name}: label 1 \(delay, .* before its start\)"):
            shard_labelled(base.traces(drives), base, tmp_path / "s", "labels")
        file.write_bytes(b"")
    beside(drives[1], "annotator").unlink()
    with pytest.raises(InputError, match=r"lossy\.annotator\.jsonl: is not there; `python -m training annot"):
        shard_labelled(base.traces(drives), base, tmp_path / "s", "annotator")
    assert not (tmp_path / "s").exists()


def test_a_trace_without_lines_is_named(base: Base, drives: list[Path], tmp_path: Path) -> None:
    """Labelled or clean; it would say nothing, and its labels would go unchecked."""
    empty = tmp_path / "empty.pcap"
    empty.write_bytes(HEADER)
    beside(empty, "labels").write_bytes(encode(Label(0, 1, "delay")))
    traces = base.traces([drives[0], empty])
    with pytest.raises(InputError, match=r"empty\.pcap: there is no PDU in this trace"):
        shard_labelled(traces, base, tmp_path / "s", "labels")
    with pytest.raises(InputError, match=r"empty\.pcap: there is no PDU in this trace"):
        shard_clean(traces, base.tokenizer, base.cycles_ns, tmp_path / "s")


def test_traffic_of_another_vehicle_is_refused(base: Base, tmp_path: Path) -> None:
    """More than a few lines of PDUs that the bundle does not know; the sentence names one."""
    trace = tmp_path / "other.pcapng"
    write_trace(draw_vehicle("vehicle"), trace, seconds=0.5, drive=1)
    beside(trace, "labels").write_bytes(b"")
    with pytest.raises(InputError, match=r"does not know the PDUs of \d+ % of these lines, \w+ for one"):
        shard_labelled(base.traces([trace]), base, tmp_path / "s", "labels")
    assert not (tmp_path / "s").exists()
