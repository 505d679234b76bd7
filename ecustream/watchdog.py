"""Whether every stage of the pipeline goes on, so that a hang is told from idleness."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Stall", "Verdict", "Watchdog"]


@dataclass(frozen=True)
class Stall:
    """A stage that stands still.

    Attributes:
        stage: its name.
        since_ns: when it was last seen to go on, on the clock of the beats.
        still_ns: for how long it has stood still.
        bound_ns: for how long it may.
    """

    stage: str
    since_ns: int
    still_ns: int
    bound_ns: int


@dataclass(frozen=True)
class Verdict:
    """What a look has found.

    Attributes:
        stalls: the stages that stand still, the longest first; empty where all go on.
        changed: whether other stages stand still than at the look before, so that it is said once.
    """

    stalls: tuple[Stall, ...]
    changed: bool

    @property
    def healthy(self) -> bool:
        """Whether every stage goes on."""
        return not self.stalls

    @property
    def sentence(self) -> str:
        """What is wrong, for a person; empty where nothing is."""
        return "; ".join(
            f"{stall.stage} has stood still for {stall.still_ns / 1e9:.1f} s, "
            f"more than {stall.bound_ns / 1e9:g} s"
            for stall in self.stalls
        )


class Watchdog:
    """Judges stages by their last beat; a pure state machine on a clock that is passed in.

    Each stage beats when it goes round its loop, also where there was nothing to do: a capture that polls in
    vain is alive, one that is stuck in a call is not. `beat` may be called from the stage's own thread and
    costs one store in a dict.

    Args:
        bounds_ns: how long each stage may go without a beat.
        now_ns: the time, of any clock that does not run backwards; every stage has beaten now.

    Raises:
        ValueError: there is no stage, or a bound is not above 0.
    """

    def __init__(self, bounds_ns: Mapping[str, int], now_ns: int) -> None:
        if not bounds_ns:
            raise ValueError("a watchdog needs a stage to watch")
        for stage, bound_ns in bounds_ns.items():
            if bound_ns <= 0:
                raise ValueError(f"the bound of {stage} is {bound_ns} ns, but must be above 0")
        self._bounds_ns = dict(bounds_ns)
        self._beats_ns = dict.fromkeys(bounds_ns, now_ns)
        self._ended: set[str] = set()
        self._stalled: frozenset[str] = frozenset()

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages."""
        return tuple(self._bounds_ns)

    def beat(self, stage: str, now_ns: int) -> None:
        """`stage` goes on.

        Raises:
            KeyError: there is no such stage.
        """
        if stage not in self._bounds_ns:
            raise KeyError(stage)
        self._beats_ns[stage] = now_ns

    def end(self, stage: str) -> None:
        """`stage` has come to its end and is watched no more, such as the capture of a trace.

        Raises:
            KeyError: there is no such stage.
        """
        if stage not in self._bounds_ns:
            raise KeyError(stage)
        self._ended.add(stage)

    def look(self, now_ns: int) -> Verdict:
        """Judges all stages; to be called by one thread only."""
        stalls = [
            Stall(stage, self._beats_ns[stage], now_ns - self._beats_ns[stage], bound_ns)
            for stage, bound_ns in self._bounds_ns.items()
            if stage not in self._ended and now_ns - self._beats_ns[stage] > bound_ns
        ]
        stalls.sort(key=lambda stall: stall.since_ns)
        stalled = frozenset(stall.stage for stall in stalls)
        changed = stalled != self._stalled
        self._stalled = stalled
        return Verdict(tuple(stalls), changed)
