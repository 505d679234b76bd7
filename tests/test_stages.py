"""The account of where a run's time goes: nesting, threads, sums, and the table."""

import threading
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ecustream.stages import STAGES, StageClock, StageTime, beside_model_share, render_profile

S = 1_000_000_000


class Hands:
    """Two clocks that stand still until they are moved."""

    def __init__(self) -> None:
        self.wall_ns = 5 * S
        self.cpu_ns = 2 * S

    def pass_s(self, wall_s: int, cpu_s: int = 0) -> None:
        """Let time pass."""
        self.wall_ns += wall_s * S
        self.cpu_ns += cpu_s * S

    def clock(self) -> StageClock:
        """A clock that reads them."""
        return StageClock(wall_ns=lambda: self.wall_ns, cpu_ns=lambda: self.cpu_ns)


def taken(clock: StageClock) -> dict[str, tuple[float, float, int, int]]:
    """Wall seconds, CPU seconds, calls and items of the stages that were used."""
    return {r.stage: (r.wall_s, r.cpu_s, r.calls, r.items) for r in clock.rows() if r.calls}


def test_uses_of_a_stage_add_up() -> None:
    """Wall time, CPU time, calls and items of a stage are those of all its uses; others stay at zero."""
    hands = Hands()
    clock = hands.clock()
    for items in (3, 4):
        with clock.stage("detection", items=items):
            hands.pass_s(10, 7)
        hands.pass_s(100, 100)
    assert taken(clock) == {"detection": (20.0, 14.0, 2, 7)}
    assert [row.stage for row in clock.rows()] == list(STAGES)


def test_an_inner_stage_is_taken_off_the_outer_one() -> None:
    """Each moment belongs to the innermost stage, also within a stage of the same name."""
    hands = Hands()
    clock = hands.clock()
    with clock.stage("start-up"):
        hands.pass_s(1, 1)
        with clock.stage("model", items=5):
            hands.pass_s(10, 2)
            with clock.stage("model"):
                hands.pass_s(20, 3)
            with clock.stage("tokenization"):
                hands.pass_s(40, 4)
        hands.pass_s(1)
    assert taken(clock) == {
        "start-up": (2.0, 1.0, 1, 0),
        "model": (30.0, 5.0, 2, 5),
        "tokenization": (40.0, 4.0, 1, 0),
    }


@given(st.recursive(st.just(()), lambda inner: st.lists(st.tuples(st.sampled_from(STAGES), inner))))
def test_however_stages_nest_every_moment_is_counted_once(tree: object) -> None:
    """The stages' sum is the time that passed within any of them."""
    hands = Hands()
    clock = hands.clock()

    def walk(branches: object) -> None:
        for stage, inner in branches:  # type: ignore[attr-defined]
            with clock.stage(stage):
                hands.pass_s(1, 2)
                walk(inner)

    walk(tree)
    rows = clock.rows()
    calls = sum(row.calls for row in rows)
    assert sum(row.wall_s for row in rows) == calls
    assert sum(row.cpu_s for row in rows) == 2 * calls


def test_a_stage_that_raises_is_counted() -> None:
    """An error passes through, its stage has ended, and the next one is not inside it."""
    hands = Hands()
    clock = hands.clock()

    def fail() -> None:
        with clock.stage("decode"):
            hands.pass_s(3)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with clock.stage("capture"):
        hands.pass_s(4)
    assert taken(clock) == {"decode": (3.0, 0.0, 1, 0), "capture": (4.0, 0.0, 1, 0)}


def test_threads_have_stages_of_their_own() -> None:
    """A stage that another thread is in is not taken off this one's, and rows add the threads up."""
    ticks = count(0, S)
    clock = StageClock(wall_ns=lambda: next(ticks), cpu_ns=lambda: 0)
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with clock.stage("capture", items=1):  # enters at 1 s
            inside.set()
            leave.wait(5)

    thread = threading.Thread(target=other)
    with clock.stage("capture", items=2):  # enters at 0 s
        thread.start()
        assert inside.wait(5)
    assert taken(clock) == {"capture": (2.0, 0.0, 1, 2)}  # left at 2 s, the other is still in it
    leave.set()
    thread.join()
    assert taken(clock) == {"capture": (4.0, 0.0, 2, 3)}


def test_rows_may_be_read_while_stages_end() -> None:
    """Every account that is read is one that was: calls and items always fit together."""
    clock = StageClock()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            with clock.stage("publishing", items=3):
                pass

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        rows: Iterator[StageTime] = (r for _ in range(300) for r in clock.rows() if r.stage == "publishing")
        assert all(row.items == 3 * row.calls for row in rows)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_the_real_clocks_tell_work_from_waiting() -> None:
    """CPU time is that of the calling thread: waiting costs wall time alone."""
    clock = StageClock()
    with clock.stage("wait for lines"):
        threading.Event().wait(0.05)
    wall_s, cpu_s, _, _ = taken(clock)["wait for lines"]
    assert wall_s >= 0.04
    assert cpu_s < 0.03


def test_a_disabled_clock_measures_nothing() -> None:
    """Disabled, the clocks are not even read and all rows stay empty."""

    def unread() -> int:
        raise AssertionError("a disabled clock was read")

    clock = StageClock(enabled=False, wall_ns=unread, cpu_ns=unread)
    with clock.stage("model", items=9), clock.stage("detection"):
        pass
    assert clock.rows() == [StageTime(stage, 0.0, 0.0, 0, 0) for stage in STAGES]


def test_an_unknown_stage_is_refused() -> None:
    """The sentence names the stages that there are."""
    with pytest.raises(ValueError, match="'detect' is none of the stages capture, decode"):
        StageClock().stage("detect")  # type: ignore[arg-type]


def rows_of(cpu_s: Callable[[int], float], items: dict[str, int] | None = None) -> list[StageTime]:
    return [StageTime(s, 2 * cpu_s(i), cpu_s(i), 1, (items or {}).get(s, 0)) for i, s in enumerate(STAGES)]


def printed(rows: list[StageTime], wall_s: float, width: int = 120) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as captured:
        console.print(render_profile(rows, wall_s))
    return captured.get()


def test_the_share_beside_the_model_is_of_cpu_time() -> None:
    """Capture, decode, tokenization, detection and publishing count; the model, waiting and others do not."""
    rows = rows_of(lambda i: 10.0**i)
    assert beside_model_share(rows, 1e6) == pytest.approx((1 + 10 + 1e3 + 1e5 + 1e6) / 1e6)
    assert beside_model_share(rows, 0.0) == 0.0


def test_the_table_tells_shares_and_the_time_of_a_line() -> None:
    """A row holds the stage's share of the wall time and its CPU time a scored line, and the sum is told."""
    rows = rows_of(lambda i: 0.5 * (i + 1), {"detection": 1_000_000, "capture": 7_000_000})
    text = printed(rows, 20.0)
    cells = {
        line.split("│")[1].strip(): [c.strip() for c in line.split("│")[2:-1]]
        for line in text.splitlines()
        if line.startswith("│")
    }
    assert cells["detection"] == ["6.00", "30", "3.00", "3.0", "1", "1,000,000"]
    assert cells["capture"] == ["1.00", "5", "0.50", "0.5", "1", "7,000,000"]
    assert "CPU time beside model, waiting and start-up: 50 % of the wall time" in text.splitlines()


def test_what_the_table_leaves_out_is_told_in_unbroken_lines() -> None:
    """On a terminal of 80 columns the sentences below the table are whole, one a line."""
    *_, share, left_out = printed(rows_of(lambda _: 1.0), 10.0, width=80).splitlines()
    assert share == "CPU time beside model, waiting and start-up: 50 % of the wall time"
    assert left_out == "The threads of the event socket and its journal are in no stage."


def test_an_empty_run_has_a_table() -> None:
    """Without time or lines there are no shares, and nothing divides by zero."""
    text = printed(StageClock().rows(), 0.0)
    assert all(stage in text for stage in STAGES)
    assert "start-up: 0 % of the wall time" in text
