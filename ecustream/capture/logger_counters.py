"""How many messages of a logger are missing, by the counter in each of them."""

from collections.abc import Sequence

__all__ = ["BACK", "MAX_SERIES", "LoggerCounters"]

BACK = -1
"""The counter went back: the logger was started anew, or its messages come twice."""
MAX_SERIES = 65_536
"""So many series are remembered; then all are forgotten."""

_COUNTS = 1 << 16


class LoggerCounters:
    """Compares each counter with the last one of its series; a pure state machine.

    Some loggers count all their messages together, some those of each stream, and no field says which. A
    message follows if it does so in one of the two ways, and fewer are missing than the other way says.
    Where the messages of a narrow series follow each other and those of the wide one do not, the logger
    counts by the narrow one from then on, and the other way round. So no loss is told that was none; of
    the first message of a narrow series nothing is known.
    """

    def __init__(self) -> None:
        self._last: dict[Sequence[int], int] = {}
        self._narrow: set[Sequence[int]] = set()

    def missing(self, counter: int, series: tuple[Sequence[int], Sequence[int]]) -> int:
        """How many messages are missing just before this one, or `BACK`.

        Args:
            counter: of the message, 16 bits.
            series: the widest and the narrowest set of messages that may be counted together.
        """
        wide, narrow = series
        in_wide, in_narrow = self._step(wide, counter), self._step(narrow, counter)
        if in_narrow is None or in_wide is None:
            return 0
        if in_narrow == 0 < in_wide:
            self._narrow.add(wide)
        elif in_wide == 0 < in_narrow:
            self._narrow.discard(wide)
        missing = in_narrow if wide in self._narrow else min(in_wide, in_narrow)
        return missing if missing < _COUNTS // 2 else BACK

    def _step(self, series: Sequence[int], counter: int) -> int | None:
        last = self._last.get(series)
        if last is None and len(self._last) >= MAX_SERIES:
            self._last.clear()
            self._narrow.clear()
        self._last[series] = counter
        return None if last is None else (counter - last - 1) % _COUNTS
