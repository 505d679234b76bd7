"""What the rows read their figures from: the reader, the printed ledger, the notifications."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecustream.ledger import Ledger
from ecustream.systemd import Notifier
from tests.namespaces import cable, needs_network, wait_for
from tests.reliability.left import books_in
from tests.reliability.malformed_live import damaged
from tests.reliability.notified import notified
from tests.reliability.reader import read_by, reading
from tests.reliability.sender import frame_of, send_paced


@pytest.fixture(scope="module")
def network() -> Iterator[str]:
    """A cable with the ends `a0` and `b0`."""
    with cable("reader") as name:
        yield name


@needs_network
@pytest.mark.parametrize("idle", [False, True])
def test_all_that_is_sent_is_read(network: str, idle: bool) -> None:
    """Each frame once, also where it waits in the ring for the reader's end."""
    with reading("b0", idle=idle) as reader:
        sent = send_paced("a0", 5000, 0.2)
        time.sleep(0.1)
        read = read_by(reader)
    assert (read.entered, read.kernel_frames, read.dropped) == (sent.frames, sent.frames, 0)
    assert read.names == {f"PDU_0x{id_:08X}": sent.frames for id_ in (0x101, 0x102, 0x103)}
    assert read.balanced


@needs_network
def test_what_an_idle_reader_has_no_room_for(network: str) -> None:
    """It is counted as dropped, by the kernel."""
    with reading("b0", ring_mib=1, idle=True) as reader:
        sent = send_paced("a0", 100_000, 0.3)
        time.sleep(0.1)
        read = read_by(reader)
    assert 0 < read.dropped < read.entered == read.kernel_frames == sent.frames
    assert read.books["frames"]["decoded"] == sent.frames - read.dropped


@needs_network
def test_a_reader_that_cannot_read(network: str) -> None:
    """It is no reader that has read nothing."""
    with pytest.raises(RuntimeError, match="the reader of a7 has ended with 1"), reading("a7"):
        pass


ENDS = st.dictionaries(
    st.sampled_from(["decoded", "kernel_dropped", "unreadable{truncated_ip}", "overwritten{backlog}"]),
    st.integers(1, 10**9),
)


@given(st.fixed_dictionaries(dict.fromkeys(["frames", "pdus", "lines", "events"], ENDS)), st.integers(0, 9))
def test_the_printed_ledger(ends: dict[str, dict[str, int]], left: int) -> None:
    """It is read as it was."""
    ledger = Ledger()
    for book, counts in ends.items():
        ledger.enter(book, sum(counts.values()) + left)
        for end, count in counts.items():
            ledger.end(book, end, count)
    printed = "captured on b0\n" + "\n".join(ledger.sentences()) + "\nthe ledger balances\n"
    entered = {book: sum(counts.values()) + left for book, counts in ends.items()}
    unaccounted = {"UNACCOUNTED": left} if left else {}
    expected = {book: {"entered": entered[book], **counts, **unaccounted} for book, counts in ends.items()}
    assert books_in(printed) == expected


def test_notifications(tmp_path: Path) -> None:
    """What a service says comes here, with the time; and the watchdog's interval goes there."""
    with notified(tmp_path, 1.5) as heard:
        notifier = Notifier()
        assert notifier.watchdog_ns == 1_500_000_000
        before_s = time.monotonic()
        notifier.ready("up")
        notifier.ping()
        wait_for(lambda: heard.at_s("WATCHDOG"))
    assert [message.words for message in heard.messages] == [
        {"READY": "1", "STATUS": "up"},
        {"WATCHDOG": "1"},
    ]
    assert before_s <= heard.at_s("READY")[0] <= heard.at_s("WATCHDOG")[0] <= time.monotonic()
    assert heard.statuses() == ["up"]
    assert not Notifier().enabled


def test_damage() -> None:
    """Most frames are really damaged, in many ways, and the same seed damages them in the same way."""
    good = frame_of(200)
    bad = [damaged(good, random.Random(seed)) for seed in range(500)]
    assert sum(frame != good for frame in bad) > 490
    assert len(set(bad)) > 400
    assert all(len(frame) >= 14 for frame in bad)
    assert bad == [damaged(good, random.Random(seed)) for seed in range(500)]
