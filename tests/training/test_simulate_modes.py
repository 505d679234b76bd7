"""What switches PDUs while a vehicle drives: modes, and the edits of faults."""

import numpy as np
import pytest
from hypothesis import given, settings

from tests.training.handmade import MS, SECOND, cyclic, ecu, vehicle_of
from tests.training.rides import OFF, PDUS, RIDE, WAKE, day_of, days, phases_of, sent_ns, span
from training.simulate.scenario import Day, ScheduleEdit, Segment


def test_modes_alternate() -> None:
    """Modes are active and idle in turn for about their mean times, at least 1 s each."""
    day = day_of([("drive", 7200)])
    changes = day.mode_changes(0, 0, 7200 * SECOND)
    assert [state for _, state in changes[:6]] == [True, False] * 3
    lengths = np.diff([time_ns for time_ns, _ in changes])
    assert lengths.min() >= SECOND
    # Of the times idle, those at the ends of the blocks are longer: the mode is idle there.
    assert lengths[::2].mean() == pytest.approx(3 * SECOND, rel=0.1)
    assert lengths[1::2].mean() == pytest.approx(4 * SECOND, rel=0.1)
    assert np.median(lengths[::2]) == pytest.approx(SECOND + 2 * SECOND * np.log(2), rel=0.1)
    for time_ns, state in changes[:50]:
        assert [day.mode_active(0, time_ns - 1), day.mode_active(0, time_ns)] == [not state, state]


def test_modes_are_random_access() -> None:
    """A part of the modes of days of driving is the same whatever was asked before, and nothing is kept."""
    hours = [("drive", 100 * 3600.0)]
    day, fresh = day_of(hours), day_of(hours)  # type: ignore[arg-type]
    late = fresh.mode_changes(1, 350_000 * SECOND, 350_400 * SECOND)
    seen = []
    for at in range(349_000, 351_000, 50):
        seen += day.mode_changes(1, at * SECOND, (at + 50) * SECOND)
    assert [change for change in seen if 350_000 * SECOND <= change[0] < 350_400 * SECOND] == late
    assert len(late) > 10
    for at in range(0, 60_000, 600):
        day.mode_changes(0, at * SECOND, (at + 1) * SECOND)
    assert len(day._modes._blocks) <= 64


@settings(max_examples=40, deadline=None)
@given(days())
def test_modes_only_while_driving_steadily(day_and_end: tuple[Day, int]) -> None:
    """Modes are active in steady driving alone."""
    day, end_ns = day_and_end
    rows = [row for row in day.context(0, 0, end_ns) if row.kind == "mode"]
    for row in rows:
        assert row.end_ns - row.start_ns >= SECOND
        assert day.steady(row.start_ns, row.end_ns)


def test_mode_context() -> None:
    """Each time that a mode was active is told once, in the slice in which it ended."""
    day = day_of([("drive", 60)])
    rows = [row for at in range(60) for row in day.context(7, at * SECOND, (at + 1) * SECOND)]
    rows += day.context_open(7, 60 * SECOND)
    told = [(row.start_ns - 7, row.end_ns - 7) for row in rows if row.name == "lane keeping"]
    changes = [time_ns for time_ns, _ in day.mode_changes(0, 0, 60 * SECOND)]
    if len(changes) % 2:
        changes.append(60 * SECOND)
    assert told == list(zip(changes[::2], changes[1::2], strict=True))
    assert len(told) > 3


def test_mode_switches_the_cycle() -> None:
    """A mode-switched PDU has its fast cycle exactly while its mode is active."""
    day = day_of([("drive", 60)])
    segments = day.segments(PDUS["Switched"], 0, 60 * SECOND)
    assert span(segments) == (0, 60 * SECOND)
    for segment in segments:
        middle_ns = (segment.start_ns + segment.end_ns) // 2
        assert segment.cycle_ns == (20 * MS if day.mode_active(0, middle_ns) else 1000 * MS)
    assert [s.start_ns for s in segments[1:]] == [
        time_ns for time_ns, _ in day.mode_changes(0, 0, 60 * SECOND)
    ]


# ---------------------------------------------------------------- edits


def test_edit_of_cycle_and_phase() -> None:
    """An edit changes cycle and phase of its PDU in its time, and of no other."""
    day = day_of([("drive", 60)])
    edited = day.edited([ScheduleEdit(PDUS["Fast"], 10 * SECOND, 12 * SECOND, cycle_ns=20 * MS, shift=1)])
    assert edited.segments(PDUS["Fast"], 0, 60 * SECOND) == [
        Segment(0, 10 * SECOND, 10 * MS),
        Segment(10 * SECOND, 12 * SECOND, 20 * MS, 1),
        Segment(12 * SECOND, 60 * SECOND, 10 * MS),
    ]
    for name, pdu in PDUS.items():
        if name != "Fast":
            assert edited.segments(pdu, 0, 60 * SECOND) == day.segments(pdu, 0, 60 * SECOND)
    assert edited.context(0, 0, 60 * SECOND) == day.context(0, 0, 60 * SECOND)


@pytest.mark.parametrize(("active", "cycle_ns"), [(True, 20 * MS), (False, 1000 * MS)])
def test_edit_of_a_mode(active: bool, cycle_ns: int) -> None:
    """An edit makes a PDU behave as if its mode were active or idle; the mode itself does not change."""
    day = day_of([("drive", 60)])
    edited = day.edited([ScheduleEdit(PDUS["Switched"], 5 * SECOND, 55 * SECOND, mode_active=active)])
    inside = edited.segments(PDUS["Switched"], 5 * SECOND, 55 * SECOND)
    assert {segment.cycle_ns for segment in inside} == {cycle_ns}
    assert span(inside) == (5 * SECOND, 55 * SECOND)
    for outside in ((0, 5 * SECOND), (55 * SECOND, 60 * SECOND)):
        assert edited.segments(PDUS["Switched"], *outside) == day.segments(PDUS["Switched"], *outside)
    assert edited.mode_changes(0, 0, 60 * SECOND) == day.mode_changes(0, 0, 60 * SECOND)


@pytest.mark.parametrize("name", ["NM_11", "Fast", "Ignition"])
def test_edit_that_keeps_a_pdu_on(name: str) -> None:
    """A PDU that is kept on goes on in its phase, also while the vehicle sleeps, and then stops."""
    day = day_of(RIDE)
    edited = day.edited([ScheduleEdit(PDUS[name], OFF - SECOND, 43 * SECOND, keeps_on=True)])
    segments = edited.segments(PDUS[name], OFF - 2 * SECOND, 45 * SECOND)
    assert span(segments) == (OFF - 2 * SECOND, 43 * SECOND)
    gaps_ns = np.diff(sent_ns(edited, name, OFF - 2 * SECOND, 45 * SECOND))
    assert np.ptp(gaps_ns) < 100_000


def test_ecus_without_network_management() -> None:
    """A vehicle without NM starts and stops too."""
    vehicle = vehicle_of([cyclic("A", 10), cyclic("B", 20, 1)], [ecu(0), ecu(1)])
    day = Day(vehicle, phases_of(RIDE), 0)
    for pdu in (0, 1):
        segments = day.segments(pdu, 0, 45 * SECOND)
        assert WAKE < segments[0].start_ns < WAKE + SECOND
        assert OFF < segments[-1].end_ns <= OFF + 4 * SECOND
