"""The journal: its files, what is read back after whatever happened to them, its bounds."""

import errno
import json
import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecustream.errors import OutputError
from ecustream.publish import journal_sync, journal_writer
from tests.publish.journals import Clock, body, fill, held, open_journal, segments, seq_of, small_disk


def test_files_are_json_lines_with_the_published_bytes(tmp_path: Path) -> None:
    """Any JSON Lines reader can read a segment, and each event in it has the bytes that were published."""
    journal = open_journal(tmp_path / "made" / "for it")
    fill(journal, "r", 3)
    (path,) = segments(tmp_path / "made" / "for it")
    start, *events = path.read_bytes().splitlines()
    assert json.loads(start)[1]["schema"] == "ecustream.journal/1"
    assert [json.loads(line)[1]["seq"] for line in events] == [1, 2, 3]
    assert [line[12:-1] for line in events] == [body("r", seq) for seq in (1, 2, 3)]
    journal.close()


def test_read_back(tmp_path: Path) -> None:
    """What was appended before the end of a process is there in the next, run by run, and is gone on with."""
    for run, count in (("a", 4), ("b", 0), ("c", 2)):
        journal = open_journal(tmp_path)
        fill(journal, run, count)
        journal.close()
    journal = open_journal(tmp_path)
    assert [(known.run, known.first_seq, known.last_seq) for known in journal.runs()] == [
        ("a", 1, 4),
        ("b", 1, 0),
        ("c", 1, 2),
    ]
    assert held(journal, "a") == [body("a", seq) for seq in range(1, 5)]
    assert len(segments(tmp_path)) == 1
    assert journal.status(0).size_bytes == segments(tmp_path)[0].stat().st_size
    journal.close()


def test_a_torn_end_of_any_length_is_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Wherever a kill tears the last line, every line before it is served, and the next one follows it."""
    whole = tmp_path / "whole"
    journal = open_journal(whole)
    fill(journal, "r", 3)
    journal.close()
    data = segments(whole)[0].read_bytes()
    end = data.rindex(b"\n", 0, -1) + 1
    for size in range(end, len(data)):
        shutil.rmtree(tmp_path / "torn", ignore_errors=True)
        shutil.copytree(whole, tmp_path / "torn")
        path = segments(tmp_path / "torn")[0]
        os.truncate(path, size)
        caplog.clear()
        journal = open_journal(tmp_path / "torn")
        assert held(journal, "r") == [body("r", 1), body("r", 2)]
        assert journal.status(0).torn == (size > end)
        said = [record.getMessage() for record in caplog.records]
        assert said == (
            [f"{path}: cut at byte {end}, the {size - end} bytes after it are no whole line"]
            if size > end
            else []
        )
        if size % 64 == 0:
            fill(journal, "next", 1)
            journal.close()
            assert path.read_bytes()[:end] == data[:end]
            journal = open_journal(tmp_path / "torn")
            assert journal.status(0).torn == 0
            assert held(journal, "next") == [body("next", 1)]
        journal.close()


def test_any_flipped_byte_is_noticed(tmp_path: Path) -> None:
    """Whichever byte the disk spoils, no wrong event is served, and at most two are gone."""
    whole = tmp_path / "whole"
    journal = open_journal(whole)
    fill(journal, "r", 4)
    journal.close()
    path = segments(whole)[0]
    data = path.read_bytes()
    expected = [body("r", seq) for seq in range(1, 5)]
    for at in range(0, len(data), 5):
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :])
        journal = open_journal(whole)
        got = held(journal, "r")
        assert [event for event in got if event not in expected] == []
        assert len(got) >= 2
        status = journal.status(0)
        assert status.torn + status.damaged == 1
        journal.close()


def test_a_line_that_is_spoilt_later_is_a_gap(tmp_path: Path) -> None:
    """A line which the disk spoils while the process runs is not served, and the gap is named."""
    journal = open_journal(tmp_path)
    fill(journal, "r", 9)
    path = segments(tmp_path)[0]
    data = bytearray(path.read_bytes())
    data[data.index(b'"seq":5,') + 6] ^= 1
    path.write_bytes(data)
    assert [seq_of(event) for event in journal.page("r", 0, 99, 1 << 20).events] == [1, 2, 3, 4]
    page = journal.page("r", 4, 99, 1 << 20)
    assert (page.events, page.oldest) == ([], 6)
    assert [seq_of(event) for event in held(journal, "r")] == [1, 2, 3, 4, 6, 7, 8, 9]
    journal.close()


@pytest.mark.parametrize("junk", [b"\0" * 5000, b"\n" * 9, b"x" * 70_000 + b"\n{}\n", b'["00000000",{}]\n'])
def test_junk_after_a_power_cut(tmp_path: Path, junk: bytes) -> None:
    """Whatever a power cut leaves at the end of a file is cut, and what is whole before it is served."""
    journal = open_journal(tmp_path)
    fill(journal, "r", 3)
    journal.close()
    path = segments(tmp_path)[0]
    good = path.read_bytes()
    path.write_bytes(good + junk)
    journal = open_journal(tmp_path)
    assert len(held(journal, "r")) == 3
    assert journal.status(0).torn == 1
    journal.close()
    assert path.read_bytes() == good


def test_files_that_are_not_ours_stay(tmp_path: Path) -> None:
    """Other files in the folder are left as they are, even one with the name of a segment."""
    others = ["events.jsonl", "events-1.jsonl", "events-00000009-20261399T000000Z.jsonl"]
    others.append("events-00000001-20260101T000000Z.jsonl")
    for name in others:
        (tmp_path / name).write_bytes(b"precious\n")
    journal = open_journal(tmp_path)
    fill(journal, "r", 3)
    assert len(held(journal, "r")) == 3
    journal.close()
    assert [(tmp_path / name).read_bytes() for name in others] == [b"precious\n"] * 4


def test_size_is_bounded(tmp_path: Path) -> None:
    """The folder never exceeds its limit; the oldest events go, and most of what is allowed is held."""
    journal = open_journal(tmp_path, max_bytes=50_000)
    journal.begin("r")
    for seq in range(1, 500):
        journal.append([(seq, body("r", seq))])
        assert sum(path.stat().st_size for path in segments(tmp_path)) <= 50_000
    got = [seq_of(event) for event in held(journal, "r")]
    assert got == list(range(got[0], 500))
    assert len(got) * len(body("r", 499)) > 40_000
    assert [(known.first_seq, known.last_seq) for known in journal.runs()] == [(got[0], 499)]
    assert journal.oldest_without_gap() == got[0]
    page = journal.page("r", 3, 9, 1 << 20)
    assert (page.events, page.oldest) == ([], got[0])
    journal.close()


def test_a_large_batch_is_bounded_too(tmp_path: Path) -> None:
    """Events that come at once are spread over segments like those that come one by one."""
    journal = open_journal(tmp_path, max_bytes=50_000)
    fill(journal, "r", 500)
    assert sum(path.stat().st_size for path in segments(tmp_path)) <= 50_000
    assert max(path.stat().st_size for path in segments(tmp_path)) <= 50_000 / 8
    assert seq_of(held(journal, "r")[-1]) == journal.seq == 500
    journal.close()


def test_a_smaller_limit_holds_from_the_next_start(tmp_path: Path) -> None:
    """A journal that is opened with a smaller limit than before is brought below it."""
    journal = open_journal(tmp_path, max_bytes=100_000)
    fill(journal, "r", 300)
    journal.close()
    journal = open_journal(tmp_path, max_bytes=20_000)
    journal.begin("next")
    assert sum(path.stat().st_size for path in segments(tmp_path)) <= 20_000
    journal.close()


def test_age_is_bounded(tmp_path: Path) -> None:
    """Events older than the limit are deleted with their segment; younger ones are kept over a restart."""
    clock = Clock()
    journal = open_journal(tmp_path, max_age_s=800, clock=clock)
    journal.begin("r")
    for seq in range(1, 100):
        journal.append([(seq, body("r", seq))])
        clock.pass_s(20)
    oldest_s = 20 * (100 - seq_of(held(journal, "r")[0]))
    assert 800 <= oldest_s <= 800 * 9 / 8 + 20
    assert 8 <= len(segments(tmp_path)) <= 10
    clock.pass_s(-3600)
    journal.append([(100, body("r", 100))])  # a clock that goes back deletes nothing
    assert seq_of(held(journal, "r")[-1]) == 100
    assert seq_of(held(journal, "r")[0]) == 100 - oldest_s // 20
    journal.close()


def test_a_crash_loop_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that dies at each start fills neither the folder with files nor the index with runs."""
    monkeypatch.setattr(journal_writer, "MAX_SPANS", 80)
    for i in range(200):
        journal = open_journal(tmp_path)
        journal.begin(f"run {i}")
        journal.close()
    journal = open_journal(tmp_path)
    known = [run.run for run in journal.runs()]
    assert 70 <= len(known) <= 80
    assert known == [f"run {i}" for i in range(200 - len(known), 200)]
    assert len(segments(tmp_path)) <= 9
    journal.close()


def test_a_run_of_the_same_name_replaces_the_earlier_one(tmp_path: Path) -> None:
    """An offline run that is repeated has the same name again; it is the newest run, with its own events."""
    for run, count in (("offline", 5), ("other", 1), ("offline", 2)):
        journal = open_journal(tmp_path)
        fill(journal, run, count)
        assert len(held(journal, run)) == count
        journal.close()
    journal = open_journal(tmp_path)
    assert [(known.run, known.last_seq) for known in journal.runs()] == [("other", 1), ("offline", 2)]
    assert len(held(journal, "offline")) == 2
    journal.close()


def test_a_second_owner_is_refused(tmp_path: Path) -> None:
    """Two processes cannot have one folder: the second is told so in one sentence; later it can."""
    journal = open_journal(tmp_path)
    with pytest.raises(OutputError) as caught:
        open_journal(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: is the journal of another running ecustream; choose another with --journal"
    )
    fill(journal, "r", 1)
    journal.close()
    open_journal(tmp_path).close()


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    """A file, or a place where nothing can be made, is refused in one sentence with its path."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=rf"{tmp_path}/file: is no folder"):
        open_journal(tmp_path / "file")
    with pytest.raises(OutputError, match=rf"{tmp_path}/file/in: is no folder"):
        open_journal(tmp_path / "file" / "in")
    with pytest.raises(OutputError, match=r"/proc/nothing.*: the journal cannot use it: "):
        open_journal(Path("/proc/nothing"))
    (tmp_path / "events-00000001-20260101T000000Z.jsonl").mkdir()
    with pytest.raises(OutputError, match=r"0000Z\.jsonl: the journal cannot use it: Is a directory"):
        open_journal(tmp_path)
    (tmp_path / "events-00000001-20260101T000000Z.jsonl").rmdir()
    open_journal(tmp_path).close()


def test_a_full_disk_leaves_no_torn_line_and_no_gap(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While the disk is full whole lines are kept, one log line says why; what waited is written later."""
    clock = Clock()
    journal = open_journal(tmp_path, clock=clock)
    fill(journal, "r", 1)
    events = [(seq, body("r", seq)) for seq in range(2, 30)]
    with small_disk(5000):
        journal.append(events)
        assert 2 < journal.seq < 20
        written = journal.seq
        assert segments(tmp_path)[0].read_bytes().endswith(body("r", written) + b"]\n")
        status = journal.status(29)
        assert (status.journalled, status.missing, status.write_errors) == (written, 29 - written, 1)
        assert status.problem == f"{tmp_path}: File too large"
        assert not journal.due
        clock.pass_s(1)
        assert journal.due
        journal.append(events[written - 1 :])
    clock.pass_s(1)
    journal.append(events[written - 1 :])
    assert held(journal, "r") == [body("r", seq) for seq in range(1, 30)]
    status = journal.status(29)
    assert (status.journalled, status.missing, status.write_errors, status.problem) == (29, 0, 2, None)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: events are not journalled for now: File too large",
        f"{tmp_path}: events are journalled again, 0 are missing",
    ]
    journal.close()
    journal = open_journal(tmp_path)
    assert journal.status(0).torn == journal.status(0).damaged == 0
    assert len(held(journal, "r")) == 29
    journal.close()


def test_a_disk_that_is_full_at_the_start(tmp_path: Path) -> None:
    """A run that begins on a full disk is written from its start once there is room, and takes no other's."""
    clock = Clock()
    journal = open_journal(tmp_path, clock=clock)
    fill(journal, "r", 3)
    with small_disk(1):
        journal.begin("r")
        assert journal.status(0).problem is not None
        assert held(journal, "r") == []
    clock.pass_s(1)
    journal.append([(1, body("r", 1))])
    assert held(journal, "r") == [body("r", 1)]
    journal.close()


def test_a_gap_that_could_not_be_helped_is_named(tmp_path: Path) -> None:
    """Events that were never written are a gap with two ends, before and after a restart."""
    journal = open_journal(tmp_path)
    fill(journal, "r", 3)
    journal.append([(7, body("r", 7)), (8, body("r", 8))])
    assert journal.oldest_without_gap() == 7
    for again in (False, True):
        if again:
            journal.close()
            journal = open_journal(tmp_path)
        assert [seq_of(event) for event in journal.page("r", 1, 99, 1 << 20).events] == [2, 3]
        assert journal.page("r", 3, 99, 1 << 20) == ([], 7)
        assert journal.page("r", 5, 99, 1 << 20) == ([], 7)
        assert [seq_of(event) for event in journal.page("r", 6, 99, 1 << 20).events] == [7, 8]
    journal.close()


def test_a_deleted_file_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who deletes the newest segment loses its events and no later ones; deleted older ones are a gap."""
    journal = open_journal(tmp_path, max_bytes=20_000)
    fill(journal, "r", 20)
    oldest, *_, newest = segments(tmp_path)
    oldest.unlink()
    newest.unlink()
    journal.append([(21, body("r", 21))])
    assert "was deleted by somebody" in caplog.text
    got = [seq_of(event) for event in held(journal, "r")]
    assert got[0] > 1
    assert got[-1] == 21
    assert len(got) < 20
    shutil.rmtree(tmp_path)
    journal.append([(22, body("r", 22))])
    assert journal.status(22).problem == f"{tmp_path}: No such file or directory"
    journal.close()


Step = tuple[str, int]


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["append", "append", "restart", "kill", "hour"]), st.integers(1, 12)),
        max_size=25,
    ),
    max_bytes=st.sampled_from([8000, 20_000, 10_000_000]),
    page_events=st.integers(1, 9),
)
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
def test_any_history_equals_a_list(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Step], max_bytes: int, page_events: int
) -> None:
    """Over appends, restarts, torn ends and rotations a journal holds the newest part of all that it got."""
    folder = tmp_path_factory.mktemp("journal")
    clock = Clock()
    model: list[tuple[str, int]] = []
    runs = ["run 0"]
    journal = open_journal(folder, max_bytes=max_bytes, max_age_s=10 * 3600, clock=clock)
    journal.begin(runs[-1])
    for what, number in steps:
        if what == "append":
            seqs = range(journal.seq + 1, journal.seq + 1 + number)
            journal.append([(seq, body(runs[-1], seq)) for seq in seqs])
            model += [(runs[-1], seq) for seq in seqs]
        elif what == "hour":
            clock.pass_s(3600)
        else:
            journal.close()
            if what == "kill":
                with segments(folder)[-1].open("ab") as file:
                    file.write(b'["00000000",{"schema"'[:number])
            runs.append(f"run {len(runs)}")
            journal = open_journal(folder, max_bytes=max_bytes, max_age_s=10 * 3600, clock=clock)
            assert journal.status(0).torn == (what == "kill")
            journal.begin(runs[-1])
    journal.close()
    journal = open_journal(folder, max_bytes=max_bytes, max_age_s=10 * 3600, clock=clock)
    got = [(run, event) for run in runs for event in held(journal, run, page_events)]
    expected = [(run, body(run, seq)) for run, seq in model]
    assert got == expected[len(expected) - len(got) :]
    if sum(what == "hour" for what, _ in steps) < 10:
        overhead_bytes = 110 * len(runs)
        assert len(got) >= min(len(expected), (max_bytes * 3 // 4 - overhead_bytes) // 690)
    journal.close()


def test_a_disk_that_takes_nothing_to_heart_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where data cannot be brought from the page cache to the disk, the journal says so for as long."""

    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def wait_for(problem: str | None) -> None:
        deadline = time.monotonic() + 5
        while journal.status(1).problem != problem:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    monkeypatch.setattr(journal_sync, "INTERVAL_S", 0.01)
    journal = open_journal(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        fill(journal, "r", 1)
        wait_for("fsync: Input/output error")
        assert journal.status(1).write_errors >= 1
    journal.append([(2, body("r", 2))])
    wait_for(None)
    assert len(held(journal, "r")) == 2
    journal.close()
