"""Steps of the wall clock, with clocks that the test sets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecustream.capture.clock_steps import ClockSteps
from ecustream.traffic import Frame

S, MS = 10**9, 10**6
START_NS = 1_700_000_000 * S
HELD_NS = 50 * MS


class Clocks:
    """Two clocks; `pass_by` is time for both, `set_by` for the wall clock alone."""

    def __init__(self) -> None:
        self.wall_ns, self.steady_ns = START_NS, 5 * S
        self.steps = ClockSteps(HELD_NS, lambda: self.wall_ns, lambda: self.steady_ns)

    def pass_by(self, ns: int) -> None:
        """Time goes on."""
        self.wall_ns += ns
        self.steady_ns += ns

    def set_by(self, ns: int) -> None:
        """Somebody sets the wall clock."""
        self.wall_ns += ns

    def frame(self) -> Frame:
        """A frame that is captured now."""
        return Frame(1, self.wall_ns, "eth1", 1, b"", 0)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.mark.parametrize("by_s", [3600, -3600, 1.1, -1.1])
def test_a_step_lies_between_the_frames_before_and_after(clocks: Clocks, by_s: float) -> None:
    """Frames that were taken together are parted where the clock was set between them."""
    clocks.steps.place([clocks.frame()], True)
    frames = []
    for _ in range(3):
        clocks.pass_by(3 * MS)
        frames.append(clocks.frame())
    clocks.set_by(round(by_s * S))
    for _ in range(2):
        clocks.pass_by(3 * MS)
        frames.append(clocks.frame())
    before, step, after = clocks.steps.place(frames, True)
    assert (before, after) == (frames[:3], frames[3:])
    assert step is not None
    assert step.by_ns == round(by_s * S)
    assert (
        str(step)
        == f"the clock of this machine was set {'forward' if by_s > 0 else 'back'} by {abs(by_s):.1f} s"
    )
    assert not clocks.steps.pending
    assert clocks.steps.place([clocks.frame()], True)[1] is None


def test_a_step_waits_for_what_the_ring_still_holds(clocks: Clocks) -> None:
    """Frames from before it may come a little later; then it is told although none has come after it."""
    clocks.pass_by(20 * MS)
    held = clocks.frame()
    clocks.set_by(3600 * S)
    assert clocks.steps.place([], True) == ([], None, [])
    assert clocks.steps.pending
    clocks.pass_by(20 * MS)
    assert clocks.steps.place([held], True) == ([held], None, [])
    clocks.pass_by(20 * MS)
    assert clocks.steps.place([], True)[1] is None
    clocks.pass_by(20 * MS)
    before, step, after = clocks.steps.place([], True)
    assert step is not None
    assert (before, after, clocks.steps.pending) == ([], [], False)


def test_a_reader_that_is_behind_goes_on_waiting(clocks: Clocks) -> None:
    """While the ring is not empty, frames from before the step may be in it, however long ago it was."""
    old = clocks.frame()
    clocks.pass_by(20 * MS)
    clocks.set_by(3600 * S)
    for _ in range(9):
        assert clocks.steps.place([old], False) == ([old], None, [])
        clocks.pass_by(200 * MS)
    new = clocks.frame()
    before, step, after = clocks.steps.place([old, new], False)
    assert step is not None
    assert (before, after) == ([old], [new])


def test_a_reader_that_paused_longer_than_the_step(clocks: Clocks) -> None:
    """Where times cannot tell, the step is told all the same, before what comes last."""
    clocks.pass_by(10 * S)
    clocks.set_by(-2 * S)
    frames = [clocks.frame()]
    clocks.steps.place(frames, True)
    for _ in range(4):
        clocks.pass_by(20 * MS)
        if clocks.steps.place([clocks.frame()], True)[1] is not None:
            return
    pytest.fail("the step was never told")


@given(st.lists(st.tuples(st.integers(0, 100 * S), st.integers(-900 * MS, 900 * MS)), max_size=20))
def test_small_corrections_are_no_steps(moves: list[tuple[int, int]]) -> None:
    """A time service may set the clock by less than a second as often as it likes."""
    clocks = Clocks()
    for pause_ns, by_ns in moves:
        clocks.pass_by(pause_ns)
        clocks.set_by(by_ns)
        frames = [clocks.frame()]
        assert clocks.steps.place(frames, True) == (frames, None, [])
        assert clocks.steps.wall_ns == clocks.wall_ns


def test_a_thread_that_loses_its_turn_sees_no_step() -> None:
    """Both clocks are read again where five seconds passed between them."""
    times = {"now": 0, "reads": 0}

    def steady_ns() -> int:
        times["reads"] += 1
        times["now"] += 5 * S if times["reads"] in (4, 6) else 10
        return times["now"]

    steps = ClockSteps(HELD_NS, lambda: START_NS + times["now"], steady_ns)
    for _ in range(4):
        assert steps.place([], True)[1] is None
    assert times["reads"] > 10
