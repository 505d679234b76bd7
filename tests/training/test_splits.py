"""Parts to train, validate and test with share no line."""

from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.errors import ConfigError
from tests.training.shards_for_tests import shards_of_widths
from training.shards import Shards
from training.splits import Part, split

SHARES = st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20)).map(
    lambda n: (n[0] / sum(n), n[1] / sum(n), n[2] / sum(n))
)


def drives(*lines: int) -> Shards:
    return shards_of_widths([[2] * count for count in lines])


def test_by_time_cuts_every_drive_in_order() -> None:
    """The beginning of a drive trains, its end tests; ten lines by .7, .1, .2 are seven, one and two."""
    assert split(drives(10, 100)) == (
        [Part(0, 7), Part(10, 80)],
        [Part(7, 8), Part(80, 90)],
        [Part(8, 10), Part(90, 110)],
    )


def test_a_part_without_lines_is_left_out() -> None:
    """A drive of one line only trains."""
    assert split(drives(1, 10)) == ([Part(0, 1), Part(1, 8)], [Part(8, 9)], [Part(9, 11)])


def test_by_drive_holds_out_the_last_drives() -> None:
    """Whole drives, as near to the shares as they allow, and never none."""
    assert split(drives(10, 10, 10), by="drive") == ([Part(0, 10)], [Part(10, 20)], [Part(20, 30)])
    assert split(drives(1000, 1, 1), by="drive").train == [Part(0, 1000)]
    assert split(drives(1, 1, 1000), by="drive").test == [Part(2, 1002)]
    ten = split(drives(*[5] * 10), by="drive")
    assert [len(parts) for parts in ten] == [7, 1, 2]
    assert [len(parts) for parts in split(drives(*[5] * 10), (0.4, 0.3, 0.3), "drive")] == [4, 3, 3]


@pytest.mark.parametrize("lines", [(10,), (10, 10)])
def test_by_drive_needs_three(lines: tuple[int, ...]) -> None:
    """With fewer drives the sentence says how many there are and what to do."""
    with pytest.raises(
        ConfigError, match=rf"at least three traces, there (is|are) {len(lines)}; split by time"
    ):
        split(drives(*lines), by="drive")


@pytest.mark.parametrize(
    "shares", [(0.7, 0.1, 0.1), (0.9, 0.1, 0.0), (1.2, -0.4, 0.2), (float("nan"), 0.5, 0.5)]
)
def test_impossible_shares_are_refused(shares: tuple[float, float, float]) -> None:
    """Shares are positive and add up to 1."""
    with pytest.raises(ConfigError, match="must be positive and add up to 1"):
        split(drives(10, 10, 10), shares)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=3, max_size=8), SHARES, st.sampled_from(["time", "drive"]))
def test_every_line_is_in_exactly_one_part(
    lines: list[int], shares: tuple[float, float, float], by: Literal["time", "drive"]
) -> None:
    """Parts are not empty, lie within one drive, and together are all lines, once."""
    shards = drives(*lines)
    parts = split(shards, shares, by)
    every = sorted(line for some in parts for part in some for line in range(part.first_line, part.stop_line))
    assert every == list(range(sum(lines)))
    for part in (part for some in parts for part in some):
        assert any(
            piece.first_line <= part.first_line < part.stop_line <= piece.first_line + piece.lines
            for piece in shards.pieces
        )
    if by == "drive":
        assert all(parts)
        assert max(parts.train) < min(parts.validation) < min(parts.test)
    else:
        for piece, count in zip(shards.pieces, lines, strict=True):
            within = [
                sum(
                    stop - first
                    for first, stop in some
                    if piece.first_line <= first < piece.first_line + count
                )
                for some in parts
            ]
            assert all(abs(n - count * share) <= 1 for n, share in zip(within, shares, strict=True))
