"""The paper's filter at once tells what it tells line by line."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.detect.perplexity import PerplexityFilter
from ecustream.scores import ScoreBlock
from tests.detect.scripts import MS, Came, at, block_of, ns, scored
from training.evaluation.paper_filter import PaperFilter, filtered
from training.metrics import Span

JOIN_NS = 40 * MS

Told = list[tuple[Span, frozenset[str]]]

marks = st.lists(
    st.tuples(st.sampled_from("^^_w"), st.sampled_from("AB"), st.integers(-3, 9)), min_size=1, max_size=80
)


def line(ms: int, mark: str, pdu: str, source: str = "ETH1") -> list[Came]:
    """`^` above the threshold, `_` below, `w` above but warming."""
    nats = 0.2 if mark == "_" else 4.0
    return at(ms, pdu=pdu, source=source, delta_nats=nats, name_nats=0.0, warming=mark == "w")


def block(*script: list[Came]) -> ScoreBlock:
    """Lines as they come, in order or not."""
    return block_of(scored(*script, in_order=False))


def one_by_one(pieces: list[list[ScoreBlock]], width: int) -> Told:
    """As `ecustream run --filter perplexity` tells."""
    machine = PerplexityFilter(2.0, width, JOIN_NS)
    events = []
    for number, piece in enumerate(pieces):
        for part in piece:
            if number and part is piece[0]:
                first = part.lines[0]
                events += machine.gap(first.time_ns, first.stream.source, "lost")
            events += machine.step_block(part)
    events += machine.finish()
    decided = {event.id: event.decided_ns for event in events if event.phase == "open"}
    return sorted(
        (
            Span(event.start_ns, event.end_ns or event.decided_ns, decided[event.id]),
            frozenset(pdu.name for pdu in event.pdus),
        )
        for event in events
        if event.phase == "close" and event.kind == "anomaly"
    )


def at_once(pieces: list[list[ScoreBlock]], width: int) -> Told:
    """The same by flags."""
    machine = PaperFilter(2.0, width, JOIN_NS)
    for number, piece in enumerate(pieces):
        if number:
            machine.gap()
        for part in piece:
            machine.add(part)
    return machine.finish()


def parts(script: list[list[Came]], cuts: list[int]) -> list[ScoreBlock]:
    """A script in blocks."""
    whole = block(*script)
    edges = sorted({0, len(script), *(cut for cut in cuts if cut < len(script))})
    return [whole.part(slice(a, b)) for a, b in pairwise(edges)]


@settings(deadline=None, max_examples=200)
@given(marks, marks, st.lists(st.integers(1, 79), max_size=3), st.integers(1, 4))
def test_tells_the_same_at_once(
    before: list[tuple[str, str, int]], after: list[tuple[str, str, int]], cuts: list[int], width: int
) -> None:
    """Any lines of one bus with a gap between, some overtaken, in any blocks."""
    pieces = []
    now_ms = 0
    for stretch in (before, after):
        script = []
        for mark, pdu, wait_ms in stretch:
            now_ms += wait_ms
            script.append(line(now_ms, mark, pdu))
        pieces.append(parts(script, cuts))
        now_ms += 5000
    assert at_once(pieces, width) == one_by_one(pieces, width)


def test_buses_have_episodes_of_their_own() -> None:
    """The lines of a row may be of any bus."""
    script = [line(0, "^", "A"), line(5, "^", "C", "ETH2"), line(9, "^", "A"), line(12, "^", "C", "ETH2")]
    pieces = [[block(*script)]]
    told = at_once(pieces, 3)
    assert told == [
        (Span(ns(0), ns(12), ns(9)), frozenset("A")),
        (Span(ns(5), ns(12), ns(9)), frozenset("C")),
    ]
    assert told == one_by_one(pieces, 3)


def test_nothing_came() -> None:
    """No lines, no episodes."""
    assert at_once([[]], 3) == []
    assert not len(filtered(np.zeros(0, np.bool_), 3)[0])
