"""Where a trace is interrupted."""

from collections import deque

import msgspec

from ecustream.run.gaps import split_at_gaps
from ecustream.traffic import Line
from tests.run.test_ring import lines


def told(*args: object) -> list[tuple[int, str]]:
    """The gaps with how many lines stand before them."""
    gaps, at = [], 0
    for part, gap in split_at_gaps(*args):  # type: ignore[arg-type]
        if gap:
            gaps.append((at, gap))
        at += len(part)
    return gaps


def later(start: int, count: int) -> list[Line]:
    """Lines that come nine seconds after the beginning."""
    return [msgspec.structs.replace(line, time_ns=line.time_ns + 9 * 10**9) for line in lines(start, count)]


def test_no_gap() -> None:
    """Lines that follow each other are one piece."""
    assert split_at_gaps(lines(1, 5), deque(), 0) == [(lines(1, 5), "")]


def test_skipped_lines_are_one_gap() -> None:
    """The skipped lines are told before the first one, with frames that were lost among them."""
    why = "1,234 lines were skipped, because they came faster than they could be scored"
    assert told(lines(5, 5), deque([(4, 7)]), 3, 1234) == [(0, why)]
    assert told(lines(5, 5), deque([(4, 7), (8, 2)]), 3, 1234) == [
        (0, why),
        (3, "the capture lost 2 frames before frame 8"),
    ]


def test_a_clock_that_went_back_where_lines_were_skipped_is_no_second_gap() -> None:
    """Time is compared with the line before, also when that line stands beyond the gap."""
    assert [at for at, _ in told(lines(5, 3), deque(), 5_000_000_000, 9)] == [0]
    assert [at for at, _ in told(later(5, 2) + lines(7, 2), deque(), 5, 9)] == [0, 2]


def test_a_loss_among_recorded_frames() -> None:
    """Lines in the order of a logger's clock: the gap is before the first line after the loss."""
    recorded = [
        msgspec.structs.replace(line, frame=frame)
        for line, frame in zip(lines(1, 5), (1, 4, 3, 2, 6), strict=True)
    ]
    assert told(recorded, deque([(4, 7)]), 0) == [(1, "the capture lost 7 frames before frame 4")]
    ahead = deque([(5, 1)])
    assert told(recorded[:4], ahead, 0) == []
    assert ahead


def test_no_lines() -> None:
    """A batch of frames without a line in them is no piece, and takes nothing out."""
    losses = deque([(1, 1)])
    assert split_at_gaps([], losses, 0) == []
    assert losses
