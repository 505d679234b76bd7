"""Whether traffic comes faster than it can be scored."""

__all__ = ["Load"]

_BEHIND_NS = 500_000_000
_CAUGHT_UP_NS = 200_000_000
_PATIENCE_NS = 1_000_000_000
_CALM_NS = 2_000_000_000


class Load:
    """Overloaded or not, with hysteresis; a pure state machine on a clock that is passed in.

    Overload begins when lines were skipped, or when scoring has been half a second or more behind for
    longer than a second; so a stall from which it recovers is none. It ends when nothing was skipped and
    scoring was less than 0.2 s behind for two seconds.

    Attributes:
        overloaded: whether it is.
        overloaded_ns: for how long it was, in sum.
    """

    def __init__(self) -> None:
        self.overloaded = False
        self.overloaded_ns = 0
        self._since_ns: int | None = None
        self._last_ns: int | None = None

    def step(self, now_ns: int, behind_ns: int, skipped: int = 0) -> bool:
        """Take a look at the load; call it before every pass, and now and then while there is none.

        Args:
            now_ns: any clock that does not run backwards.
            behind_ns: how long the oldest line that is not scored has waited.
            skipped: lines that were skipped since the last look.

        Returns:
            Whether `overloaded` changed.
        """
        if self.overloaded and self._last_ns is not None:
            self.overloaded_ns += now_ns - self._last_ns
        self._last_ns = now_ns
        if self.overloaded:
            turns, patience_ns = not skipped and behind_ns < _CAUGHT_UP_NS, _CALM_NS
        else:
            turns, patience_ns = behind_ns >= _BEHIND_NS, _PATIENCE_NS
        if not turns:
            self._since_ns = None
        elif self._since_ns is None:
            self._since_ns = now_ns
        lasted = self._since_ns is not None and now_ns - self._since_ns > patience_ns
        if not (lasted or (skipped and not self.overloaded)):
            return False
        self.overloaded = not self.overloaded
        self._since_ns = None
        return True
