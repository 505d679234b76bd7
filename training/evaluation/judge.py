"""One trace scored, and judged beside."""

import time
from collections.abc import Callable

from training.evaluation.ahead import ahead
from training.evaluation.beside import JudgeBeside
from training.evaluation.cases import Case
from training.evaluation.judging import Judged
from training.evaluation.scan import Opened, scan

__all__ = ["judge"]


def judge(
    case: Case,
    opened: Opened,
    beside: JudgeBeside,
    progress: Callable[[int], None] = lambda bytes_read: None,
) -> Judged:
    """Score a trace, and let everything judge its lines as they come.

    Args:
        case: the trace.
        opened: the bundle.
        beside: what judges.
        progress: is told how many bytes were read.

    Raises:
        InputError: the trace cannot be read, or its labels belong to another one.
        TooShortError: it has no line that the model is warm for.
    """
    started = time.perf_counter()
    damage: list[str] = []
    beside.begin(case)
    for scored in ahead(scan(opened, case.path, damage)):
        beside.add(scored)
        progress(scored.bytes_read)
    beside.settle()
    pass_s = time.perf_counter() - started
    judged = beside.finish(damage)
    judged.result.pass_seconds, judged.result.seconds = pass_s, time.perf_counter() - started
    return judged
