"""One line of a log moved into its future, as a late message would come."""

from collections.abc import Sequence

import msgspec

from ecustream.traffic import Line

__all__ = ["later_by_lines", "later_by_ns"]


def later_by_ns(lines: Sequence[Line], at: int, by_ns: int) -> list[Line]:
    """Line `at` comes later by a time; of lines at the same time it becomes the last.

    Delta times are those that a decoder would find: the moved line's, and that of what follows it in its PDU.

    Args:
        lines: in order.
        at: index of the line.
        by_ns: nanoseconds, 0 at least; 0 leaves everything as it is.

    Raises:
        ValueError: the time is negative.
    """
    if by_ns < 0:
        raise ValueError(f"a line cannot be moved by {by_ns} ns, only into its future")
    if by_ns == 0:
        return list(lines)
    time_ns = lines[at].time_ns + by_ns
    stop = at + 1
    while stop < len(lines) and lines[stop].time_ns <= time_ns:
        stop += 1
    return _put(lines, at, stop, time_ns)


def later_by_lines(lines: Sequence[Line], at: int, by_lines: int) -> list[Line]:
    """Line `at` comes right after the `by_lines`-th line that followed it, at the same time as that.

    Raises:
        ValueError: the number is negative, or so many lines do not follow.
    """
    if not 0 <= by_lines < len(lines) - at:
        raise ValueError(f"a line with {len(lines) - at - 1} lines after it cannot be moved by {by_lines}")
    if by_lines == 0:
        return list(lines)
    return _put(lines, at, at + by_lines + 1, lines[at + by_lines].time_ns)


def _put(lines: Sequence[Line], at: int, stop: int, time_ns: int) -> list[Line]:
    """The line before index `stop`, at a time of its own, in the activity state of its new neighbours."""
    moved = msgspec.structs.replace(lines[at], time_ns=time_ns, state=lines[stop - 1].state)
    out = [*lines[:at], *lines[at + 1 : stop], moved, *lines[stop:]]
    key = moved.stream.key
    first = lines[at]
    # None stays None: what came before the log is not known.
    last_ns = None if first.delta_ns is None else first.time_ns - first.delta_ns
    for i in range(at, len(out)):
        line = out[i]
        if line.stream.key != key:
            continue
        delta_ns = None if last_ns is None else line.time_ns - last_ns
        settled = i >= stop
        if line.delta_ns != delta_ns:
            out[i] = msgspec.structs.replace(line, delta_ns=delta_ns)
        last_ns = line.time_ns
        if settled:
            break
    return out
