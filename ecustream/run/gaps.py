"""Where a trace is interrupted: its clock went back, the logger lost frames, or lines were skipped."""

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Sequence

from ecustream.traffic import Line

__all__ = ["CLOCK_STEP_NS", "split_at_gaps"]

CLOCK_STEP_NS = 1_000_000_000
"""Packets of a logger may be in disorder by less than that."""


def split_at_gaps(
    lines: list[Line],
    losses: deque[tuple[int, int]],
    before_ns: int,
    skipped: int = 0,
    breaks: Sequence[tuple[int, str]] = (),
) -> list[tuple[list[Line], str]]:
    """The lines in pieces, each with why it does not follow what was before it; empty where it does.

    Gaps are where time goes back by more than a second, where the logger lost frames, where a live capture
    was interrupted, and where lines were skipped because scoring could not keep up.

    Args:
        lines: the next lines of a trace.
        losses: frame number and count of frames lost before it, as in `CaptureReader`; those up to the last
            line are taken out.
        before_ns: time of the line before; 0 for none.
        skipped: lines that were skipped just before the first one.
        breaks: (line number, why) of a live capture's interruptions up to the last line: lines with that
            number or a higher one came after it.
    """
    if not lines:
        return []
    lost: Counter[int] = Counter()
    # What a logger recorded is told in the order of its clock, which need not be that of its frames.
    highest = max(line.frame for line in lines) if losses else 0
    while losses and losses[0][0] <= highest:
        number, count = losses.popleft()
        lost[next(i for i, line in enumerate(lines) if line.frame >= number)] += count
    gaps = {
        i: f"the capture lost {count:,} frames before frame {lines[i].frame}" for i, count in lost.items()
    }
    for i, line in enumerate(lines):
        if line.time_ns < before_ns - CLOCK_STEP_NS:
            gaps[i] = f"the capture clock went back by {(before_ns - line.time_ns) / 1e9:.1f} s"
        elif line.time_ns <= before_ns and i not in gaps:
            continue
        before_ns = line.time_ns
    broken: dict[int, list[str]] = {}
    for number, why in breaks:
        broken.setdefault(bisect_left(lines, number, key=lambda line: line.number), []).append(why)
    gaps |= {i: "; ".join(whys) for i, whys in broken.items()}
    if skipped:
        # Where they were skipped, what is told of the first line is of lines that nobody has seen.
        gaps[0] = f"{skipped:,} lines were skipped, because they came faster than they could be scored"
    cuts = sorted({0, *gaps})
    return [(lines[a:b], gaps.get(a, "")) for a, b in zip(cuts, [*cuts[1:], len(lines)], strict=True)]
