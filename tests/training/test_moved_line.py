"""A line moved into its future, against a decoder that saw it come there."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecustream.traffic import Line
from tests.training.clean_traffic import MS, START_NS, lines_of
from training.moved_line import later_by_lines, later_by_ns

LOGS = st.dictionaries(
    st.sampled_from("ABC"),
    st.lists(st.integers(0, 40).map(lambda k: START_NS + k * MS), min_size=1, max_size=9, unique=True),
    min_size=1,
)


def decoded(lines: list[Line]) -> list[Line]:
    """Delta times from nothing but times; what came before the first line is not known."""
    last: dict[str, int] = {}
    out = []
    for line in lines:
        key = line.stream.key
        out.append(msgspec.structs.replace(line, delta_ns=line.time_ns - last[key] if key in last else None))
        last[key] = line.time_ns
    return out


@given(LOGS, st.data())
def test_delta_times_are_those_of_a_decoder(log: dict[str, list[int]], data: st.DataObject) -> None:
    """Moved by time or by lines, the log is in order, and its deltas follow from its times."""
    lines = lines_of(log)
    at = data.draw(st.integers(0, len(lines) - 1))
    by_ns = data.draw(st.integers(0, 60 * MS))
    by_lines = data.draw(st.integers(0, len(lines) - 1 - at))
    for moved in (later_by_ns(lines, at, by_ns), later_by_lines(lines, at, by_lines)):
        assert [line.time_ns for line in moved] == sorted(line.time_ns for line in moved)
        assert sorted(line.number for line in moved) == list(range(len(lines)))
        first_of_key = all(line.stream.key != lines[at].stream.key for line in lines[:at])
        if first_of_key:
            # Nothing is known of the time before, so the first after it has no delta either.
            key = lines[at].stream.key
            came = [line for line in moved if line.stream.key == key]
            if came[0].number == lines[at].number:
                assert came[0].delta_ns is None
        else:
            assert moved == decoded(moved)
    assert later_by_ns(lines, at, 0) == lines == later_by_lines(lines, at, 0)


def test_a_late_line_shortens_the_next_interval() -> None:
    """By hand: A every 10 ms with B between, the second A 4 ms late."""
    ms = [START_NS + k * MS for k in range(40)]
    lines = lines_of({"A": [ms[0], ms[10], ms[20], ms[30]], "B": [ms[2], ms[12], ms[22]]})
    moved = later_by_ns(lines, 2, 4 * MS)
    assert [(line.stream.name, line.time_ns - START_NS, line.delta_ns) for line in moved[2:6]] == [
        ("B", 12 * MS, 10 * MS),
        ("A", 14 * MS, 14 * MS),
        ("A", 20 * MS, 6 * MS),
        ("B", 22 * MS, 10 * MS),
    ]
    assert moved[6] is lines[6]
    assert later_by_lines(lines, 2, 1)[3].delta_ns == 12 * MS
    # At the same time as another it is the last, as if it had come by lines.
    assert later_by_ns(lines, 2, 2 * MS) == later_by_lines(lines, 2, 1)
    # Behind its own next one: that one waits twice as long.
    behind = later_by_lines(lines, 2, 2)
    assert [(line.number, line.delta_ns) for line in behind if line.stream.name == "A"] == [
        (0, None),
        (4, 20 * MS),
        (2, 0),
        (6, 10 * MS),
    ]


def test_lines_move_into_their_future_only() -> None:
    """And no further than the log goes."""
    lines = lines_of({"A": [START_NS, START_NS + 5]})
    with pytest.raises(ValueError, match="only into its future"):
        later_by_ns(lines, 0, -1)
    for by in (-1, 2):
        with pytest.raises(ValueError, match=f"cannot be moved by {by}"):
            later_by_lines(lines, 0, by)
