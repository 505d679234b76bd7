"""The paper's filter: k consecutive lines above a threshold; here 3 lines above a perplexity of 2."""

import math

from ecustream.detect.perplexity import PerplexityFilter
from tests.detect.scripts import MS, Came, at, closes, feed, names, ns, opens

HIGH, LOW = 2 * math.log(4.0), 2 * math.log(1.2)


def lines(pattern: str, start_ms: float = 0, pdu: str = "A") -> list[Came]:
    """One line every 10 ms: `^` above the threshold, `_` below, `w` above but warming up."""
    script: list[Came] = []
    for i, mark in enumerate(pattern):
        nats = LOW if mark == "_" else HIGH
        script += at(start_ms + 10 * i, pdu=pdu, delta_nats=nats, name_nats=0.0, warming=mark == "w")
    return script


def paper(k: int = 3) -> PerplexityFilter:
    """The filter with a join window of 200 ms."""
    return PerplexityFilter(2.0, k, 200 * MS)


def test_k_lines_in_a_row_open() -> None:
    """The k-th line in a row opens; the episode begins at the first of them and counts all."""
    (event,) = feed(paper(), lines("__^^^"))
    assert (event.phase, event.start_ns, event.decided_ns) == ("open", ns(20), ns(40))
    (close,) = feed(paper(), lines("__^^^^_____"), finish=True)[-1:]
    assert (close.lines, close.frames) == (4, (3, 6))


def test_fewer_than_k_are_removed() -> None:
    """Any number of shorter runs gives nothing."""
    assert feed(paper(), lines("^^_" * 50), finish=True) == []


def test_fewer_than_k_below_do_not_close() -> None:
    """A dip of less than k lines is removed as well: the episode goes on."""
    events = feed(paper(), lines("^^^__^__^__^" + "_" * 50), finish=True)
    assert len(opens(events)) == 1
    assert closes(events)[0].end_ns == ns(110)


def test_k_below_close_after_the_join_window() -> None:
    """The episode is over k good lines and one join window later."""
    events = feed(paper(), lines("^^^" + "_" * 40))
    (close,) = closes(events)
    assert close.decided_ns >= ns(220)
    assert "still so" not in close.reason


def test_streak_goes_over_pdus() -> None:
    """The lines of a row may be of any PDU, and all of them are named."""
    events = feed(paper(), lines("^", 0, "A"), lines("^", 1, "B"), lines("^", 2, "C"), finish=True)
    assert names(closes(events)[0]) == {"A", "B", "C"}


def test_single_strange_line_between_good_ones_is_lost() -> None:
    """What the filter cannot see: one PDU that is late, between good lines of others."""
    assert feed(paper(), lines("____^____"), finish=True) == []
    assert len(opens(feed(paper(1), lines("____^____")))) == 1


def test_warming_lines_do_not_count() -> None:
    """Scores without their receptive field open nothing."""
    assert feed(paper(), lines("wwwwww"), finish=True) == []


def test_reason_names_seen_and_expected() -> None:
    """The sentence has the line's perplexity and the threshold."""
    (event,) = feed(paper(), lines("^^^"))
    assert "perplexity 4.00, expected at most 2" in event.reason


def test_gap_ends_the_streak() -> None:
    """Lines on both sides of a gap are not in a row."""
    machine = paper()
    events = feed(machine, lines("^^"))
    events += machine.gap(ns(1000), "ETH1", "lost")
    events += feed(machine, lines("^^", 1000))
    assert {event.kind for event in events} == {"capture_gap"}


def test_end_says_what_is_still_so() -> None:
    """An open episode closes at the end and says so."""
    (close,) = closes(feed(paper(), lines("^^^"), finish=True))
    assert close.reason.endswith("still so at the end")
