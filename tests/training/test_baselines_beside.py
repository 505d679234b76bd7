"""Baselines in a process of their own give what they give in this one."""

import os
import signal

import numpy as np
import pytest

from ecustream.errors import EcustreamError
from tests.training.baseline_traffic import JOIN_NS, NUMBERS, clean, injected, labelled
from training.baselines.beside import RivalResult, RivalsBeside
from training.baselines.every import every_baseline
from training.baselines.rival import Rival


@pytest.fixture(scope="module")
def rivals() -> list[Rival]:
    """All baselines, with two budgets."""
    learn = [clean(1, 30)], [labelled(3)]
    return [
        Rival(baseline.name, baseline.fit(*learn), {1.0: 3.0, 10.0: 0.6}, frozenset())
        for baseline in every_baseline()
    ]


def results(beside: RivalsBeside) -> list[list[RivalResult]]:
    """Of two traces, the first of them with a gap."""
    late, burst = injected("late")[0], injected("burst")[0]
    found = []
    for ranked, pieces in ((True, [late.part(0, 500), late.part(500, len(late.pdu))]), (False, [burst])):
        beside.begin(ranked)
        for number, piece in enumerate(pieces):
            if number:
                beside.gap(NUMBERS.sources)
            for part in piece.parts(300):
                beside.add(part, NUMBERS.sources)
        found.append(beside.finish(NUMBERS.sources))
    return found


def test_the_same_in_a_process_of_their_own(rivals: list[Rival]) -> None:
    """Scores bit by bit, and episodes; scores of lines that nobody judges are not kept."""
    with RivalsBeside(rivals, JOIN_NS) as here, RivalsBeside(rivals, JOIN_NS, own_process=True) as there:
        for one, other in zip(results(here), results(there), strict=True):
            for rival, ours, theirs in zip(rivals, one, other, strict=True):
                assert np.array_equal(ours.scores, theirs.scores), rival.name
                assert ours.spans == theirs.spans, rival.name
        found = results(here)
    assert all(len(result.scores) for result in found[0])
    assert not any(len(result.scores) for result in found[1])
    assert any(result.spans[10.0] for result in found[0])


def test_killed_process_is_a_sentence(rivals: list[Rival]) -> None:
    """As by the kernel when memory runs out."""
    with RivalsBeside(rivals, JOIN_NS, own_process=True) as beside:
        beside.begin(True)
        beside.add(injected("late")[0], NUMBERS.sources)
        beside.gap(NUMBERS.sources)
        assert beside._pool is not None
        (pid,) = beside._pool._processes
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EcustreamError, match="the process of the baselines was killed"):
            beside.finish(NUMBERS.sources)


def test_no_baselines() -> None:
    """No process, and no results."""
    with RivalsBeside([], JOIN_NS, own_process=True) as beside:
        assert results(beside) == [[], []]
