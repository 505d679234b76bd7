"""What ECUs send has the statistics that it was made with, however it is cut and whatever is edited."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.handmade import MS, SECOND, cyclic, ecu, full_vehicle, plain_vehicle, vehicle_of
from training.draws import IntArray
from training.simulate.scenario import Day, Phase, ScheduleEdit, Segment, read_scenario
from training.simulate.schedule import EcuSender
from training.simulate.tables import Sends
from training.simulate.vehicle import Vehicle

PDUS = {pdu.name: index for index, pdu in enumerate(full_vehicle().pdus)}


def driving(vehicle: Vehicle, seconds: float, drive: int = 0, edits: Sequence[ScheduleEdit] = ()) -> Sends:
    """All sends of a vehicle that drives."""
    return sends_of(vehicle, Day(vehicle, read_scenario("drive", seconds), drive, edits), seconds, drive)


def sends_of(vehicle: Vehicle, day: Day, seconds: float, drive: int = 0, steps: Sequence[int] = ()) -> Sends:
    """All sends of a day up to a time, in order of ECU and PDU and time; `steps` are where it is cut."""
    tables = []
    for unit in range(len(vehicle.ecus)):
        sender = EcuSender(vehicle, unit, day, drive)
        tables += [sender.advance(at) for at in (*steps, round(seconds * SECOND))]
    sends = Sends.join(tables)
    return sends.take(np.lexsort((sends.time_ns, sends.pdu)))


def times(sends: Sends, pdu: int) -> IntArray:
    """When a PDU was sent."""
    time_ns: IntArray = sends.time_ns[sends.pdu == pdu]
    return time_ns


def nominal(vehicle: Vehicle, pdu: int, count: int) -> IntArray:
    """The first due times of a PDU on its sender's clock, in exact arithmetic."""
    model, unit = vehicle.pdus[pdu], vehicle.ecus[vehicle.pdus[pdu].ecu]
    assert model.cycle_ns is not None
    elapsed = [model.phase * unit.raster_ns + number * model.cycle_ns for number in range(count)]
    return np.array([unit.anchor_ns + t + t * unit.drift_ppb // 10**9 for t in elapsed])


def same(a: Sends, b: Sends) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Sends))


def jittering(**changes: Any) -> Vehicle:
    """An ECU with one 20 ms PDU."""
    return vehicle_of([cyclic("A", 20)], [ecu(**changes)])


# ---------------------------------------------------------------- the task


def test_cycles_and_phases() -> None:
    """A cyclic PDU comes once a cycle from its phase on, never before it is due and soon after."""
    vehicle = plain_vehicle()
    sends = driving(vehicle, 20)
    assert sends.due.all()
    assert sends.sent.all()
    assert (sends.data_ns == sends.time_ns).all()
    for pdu, model in enumerate(vehicle.pdus):
        sent_ns = times(sends, pdu)
        assert model.cycle_ns is not None
        assert len(sent_ns) == pytest.approx(20 * SECOND / model.cycle_ns, abs=1)
        late_ns = sent_ns - nominal(vehicle, pdu, len(sent_ns))
        assert late_ns.min() >= vehicle.ecus[0].gap_ns - 1
        assert np.percentile(late_ns, 99) < 3 * 30_000 + 4 * 20_000


@pytest.mark.parametrize("drift_ppb", [-100_000, 0, 73_000])
def test_drift(drift_ppb: int) -> None:
    """The cycles of an ECU are stretched by its drift, also after days."""
    vehicle = jittering(drift_ppb=drift_ppb, jitter_sigma_ns=5_000)
    sent_ns = times(driving(vehicle, 100), 0)
    fitted_ns = np.polyfit(np.arange(len(sent_ns)), sent_ns, 1)[0]
    assert (fitted_ns / (20 * MS) - 1) * 1e9 == pytest.approx(drift_ppb, abs=1_000)

    sender = EcuSender(vehicle, 0, Day(vehicle, (Phase("drive", 0, 10**9),), 0), 0)
    clock = sender._clock
    month = 30 * 86_400 * 200
    exact_ns = vehicle.ecus[0].anchor_ns + month * 5 * MS * (10**9 + drift_ppb) // 10**9
    assert abs(clock.time_ns(month) - exact_ns) <= 1
    assert int(clock.time_ns(np.array([month]))[0]) == clock.time_ns(month)
    assert clock.first_from(clock.time_ns(month)) == month
    assert clock.first_from(clock.time_ns(month) + 1) == month + 1


@pytest.mark.parametrize("sigma_ns", [5_000, 100_000])
def test_jitter(sigma_ns: int) -> None:
    """A task starts late by a half-normal jitter; one in a thousand by up to 95 % of its raster."""
    vehicle = jittering(jitter_sigma_ns=sigma_ns)
    sent_ns = times(driving(vehicle, 600), 0)
    late_ns = sent_ns - nominal(vehicle, 0, len(sent_ns))
    gap_ns = vehicle.ecus[0].gap_ns
    usual = late_ns < 4 * sigma_ns + 2 * gap_ns
    # The gap is uniform from 1 to 1.5 of `gap_ns`: subtract its mean and its variance.
    jitter_ns = late_ns[usual] - 1.25 * gap_ns
    assert jitter_ns.mean() == pytest.approx(sigma_ns * np.sqrt(2 / np.pi), rel=0.03)
    variance = jitter_ns.var() - (gap_ns / 2) ** 2 / 12
    assert variance == pytest.approx(sigma_ns**2 * (1 - 2 / np.pi), rel=0.1)
    tail_ns = late_ns[~usual]
    assert 0.0004 < len(tail_ns) / len(late_ns) < 0.0017
    assert 2 * MS < tail_ns.max() < 0.95 * 5 * MS + 4 * sigma_ns + 2 * gap_ns


def test_tail_is_limited_by_the_cycle() -> None:
    """A late task delays a 5 ms PDU by 30 % of its cycle at most."""
    vehicle = vehicle_of([cyclic("A", 5), cyclic("B", 1000)])
    sent_ns = times(driving(vehicle, 300), 0)
    late_ns = sent_ns - nominal(vehicle, 0, len(sent_ns))
    assert 1.2 * MS < late_ns.max() < 1.5 * MS + 150_000


def test_order_in_the_task() -> None:
    """PDUs of an activation follow in the vehicle's order, 1 to 1.5 gaps apart; groups are adjacent."""
    vehicle = vehicle_of([cyclic(f"P{number}", 10) for number in range(6)])
    sends = driving(vehicle, 20)
    table = sends.time_ns.reshape(6, -1)
    gaps_ns = np.diff(table, axis=0)
    gap_ns = vehicle.ecus[0].gap_ns
    assert gaps_ns.min() >= gap_ns
    assert gaps_ns.max() <= 1.5 * gap_ns
    assert gaps_ns.mean() == pytest.approx(1.25 * gap_ns, rel=0.02)

    full = driving(full_vehicle(), 20)
    for first, second in (("Group_A", "Group_B"), ("Sync", "Follow_Up")):
        apart_ns = times(full, PDUS[second]) - times(full, PDUS[first])
        assert ((apart_ns >= 20_000) & (apart_ns <= 30_000)).all()


def test_an_activation_waits_for_the_one_before() -> None:
    """Where a task has more to send than time, the next activation follows without overlap."""
    vehicle = vehicle_of(
        [cyclic(f"P{n}", 100) for n in range(20)] + [cyclic("Next", 100, phase=1)], [ecu(gap_ns=300_000)]
    )
    sends = driving(vehicle, 10)
    behind_ns = times(sends, 20) - times(sends, 19)
    assert ((behind_ns >= 300_000) & (behind_ns <= 450_000)).all()
    steps = range(5 * MS, 10 * SECOND, 100 * MS)
    assert same(sends, sends_of(vehicle, Day(vehicle, read_scenario("drive", 10), 0), 10, 0, steps))
    # The backlog is gone before the next cycle.
    assert np.abs(np.diff(times(sends, 0)) - 100 * MS).max() < 6 * MS


def test_forwarded_pdus() -> None:
    """A forwarded PDU has the drift of another bus, its own place in the raster and up to 2 ms delay."""
    pdus = [cyclic(f"F{number}", 20, forwarded=True) for number in range(12)] + [cyclic("A", 20)]
    vehicle = vehicle_of(pdus)
    sends = driving(vehicle, 300)
    drifts, places = [], []
    for pdu in range(12):
        sent_ns = times(sends, pdu)
        slope, intercept = np.polyfit(np.arange(len(sent_ns)), sent_ns, 1)
        residual_ns = sent_ns - (slope * np.arange(len(sent_ns)) + intercept)
        assert residual_ns.std() == pytest.approx(2 * MS / np.sqrt(12), rel=0.05)
        assert np.ptp(residual_ns) < 2.1 * MS
        drifts.append(round((slope / (20 * MS) - 1) * 1e6))
        places.append(round(intercept) % (5 * MS))
    assert 2 <= len(set(np.round(np.array(drifts) / 5).tolist())) <= 6
    assert np.abs(drifts).max() <= 102
    assert np.ptp(places) > 2 * MS
    # They take no place in the task.
    alone = driving(vehicle_of([*pdus[12:]]), 300)
    assert np.array_equal(times(alone, 0), times(sends, 12))


# ---------------------------------------------------------------- changes, events, modes


def test_mode_switched_cycle() -> None:
    """A mode-switched PDU has its fast cycle in the mode and its slow one out of it."""
    vehicle = full_vehicle()
    day = Day(vehicle, read_scenario("drive", 120), 0)
    sent_ns = times(sends_of(vehicle, day, 120), PDUS["Switched"])
    gaps_ns = np.diff(sent_ns)
    middle_ns = sent_ns[:-1] + gaps_ns // 2
    changes_ns = [time_ns for time_ns, _ in day.mode_changes(0, 0, 120 * SECOND)]
    whole = np.searchsorted(changes_ns, sent_ns[:-1]) == np.searchsorted(changes_ns, sent_ns[1:])
    active = np.array([day.mode_active(0, int(at)) for at in middle_ns])
    assert gaps_ns[whole & active] == pytest.approx(20 * MS, abs=5 * MS)
    assert gaps_ns[whole & ~active] == pytest.approx(1000 * MS, abs=5 * MS)
    # Switched on, it is sent within one fast cycle.
    for time_ns, state in day.mode_changes(0, 0, 118 * SECOND):
        if state:
            assert sent_ns[sent_ns >= time_ns][0] - time_ns < 26 * MS
    assert (active & whole).sum() > 1000


def test_announced_mode() -> None:
    """A PDU that announces a mode says its state in each send, and repeats a new one three times."""
    vehicle = full_vehicle()
    day = Day(vehicle, read_scenario("drive", 120), 0)
    sends = sends_of(vehicle, day, 120)
    rows = sends.take(sends.pdu == PDUS["Status"])
    changes = day.mode_changes(0, 0, 119 * SECOND)
    assert len(changes) > 10
    for number, (time_ns, state) in enumerate(changes, 1):
        after = np.flatnonzero(rows.time_ns >= time_ns)
        first = after[0]
        assert rows.time_ns[first] - time_ns < 5 * MS + 300_000
        assert rows.value[first] == state != rows.value[first - 1]
        assert rows.changes[first] == number == rows.changes[first - 1] + 1
        for repetition in (1, 2, 3):
            assert np.abs(rows.time_ns - rows.time_ns[first] - repetition * 10 * MS).min() < 5 * MS
    assert rows.due.sum() == pytest.approx(1200, abs=1)
    assert 3 * len(changes) < (~rows.due).sum() <= 4 * len(changes) + 4


def test_changes_of_mixed_pdus() -> None:
    """A mixed PDU is sent in its cycle, and on change with repetitions that bring no further change."""
    sends = driving(full_vehicle(), 300)
    rows = sends.take(sends.pdu == PDUS["Mixed"])
    assert rows.due.sum() == pytest.approx(1500, abs=1)
    steps = np.diff(rows.changes)
    assert steps.min() == 0
    assert steps.max() == 1
    new_ns = rows.time_ns[1:][steps == 1]
    for repetition in (1, 2, 3):
        apart_ns = [np.abs(rows.time_ns - at - repetition * 10 * MS).min() for at in new_ns[:-1]]
        assert max(apart_ns) < 5 * MS
    # The next change comes after the repetitions, 30 ms, and half an activation more on average.
    waits_ns = np.diff(new_ns) - 30 * MS - 2.5 * MS
    assert waits_ns.min() > 0
    assert waits_ns.mean() == pytest.approx(700 * MS, rel=0.12)
    assert waits_ns.std() == pytest.approx(700 * MS, rel=0.15)


def test_bursts() -> None:
    """An event PDU comes in bursts of new values, on average as many as it should."""
    sends = driving(full_vehicle(), 600)
    rows = sends.take(sends.pdu == PDUS["Burst"])
    assert not rows.due.any()
    assert (np.diff(rows.changes) == 1).all()
    assert rows.changes[0] == 1
    starts = np.flatnonzero(np.diff(rows.time_ns) > 13 * MS)
    lengths = np.diff(starts)
    assert lengths.mean() == pytest.approx(5, rel=0.06)
    assert lengths.min() == 1
    inside_ns = np.diff(rows.time_ns)[np.diff(rows.time_ns) < 13 * MS]
    assert np.median(inside_ns) == pytest.approx(10 * MS, abs=50_000)


def test_requests() -> None:
    """Requests are numbered, and come at random with their mean distance."""
    sends = driving(full_vehicle(), 300)
    rows = sends.take(sends.pdu == PDUS["Request"])
    assert rows.value.tolist() == list(range(1, len(rows) + 1))
    assert not rows.due.any()
    waits_ns = np.diff(rows.time_ns)
    assert waits_ns.mean() == pytest.approx(400 * MS, rel=0.1)
    assert waits_ns.std() == pytest.approx(400 * MS, rel=0.15)
    assert PDUS["Reply"] not in sends.pdu


def test_rare_events() -> None:
    """Events may be rarer than one in a minute."""
    pdu = cyclic("Rare", None, send_type="event", event_interval_ns=300 * SECOND)
    rows = driving(vehicle_of([pdu]), 100_000)
    assert len(rows) == pytest.approx(333, abs=60)


# ---------------------------------------------------------------- start-up and shutdown


@pytest.mark.parametrize("drive", range(4))
def test_day_on_the_wire(drive: int) -> None:
    """Awake, NM comes first, with its burst and its control bits; asleep, nothing comes."""
    vehicle = full_vehicle()
    day = Day(vehicle, read_scenario("day", 60), drive)
    sends = sends_of(vehicle, day, 60, drive)
    wake_ns = day.phases[0].end_ns
    assert vehicle.pdus[int(sends.pdu[sends.time_ns.argmin()])].role in ("nm", "sync")
    assert sends.time_ns.min() > wake_ns
    margin_ns = 5 * MS
    for phase in day.phases:
        if phase.kind == "asleep":
            inside = (sends.time_ns > phase.start_ns + margin_ns) & (sends.time_ns < phase.end_ns)
            assert not inside.any()
    for name in ("NM_10", "NM_11"):
        rows = sends.take(sends.pdu == PDUS[name])
        assert rows.due.all()
        assert (rows.value[:5] & 1).all()
        assert np.diff(rows.time_ns)[:4] == pytest.approx(20 * MS, abs=5 * MS)
        assert np.diff(rows.time_ns)[4] > 400 * MS
    coordinator = sends.take(sends.pdu == PDUS["NM_10"])
    assert (coordinator.value == 0x08).sum() == 3
    assert coordinator.value[-3:].tolist() == [8, 8, 8]


def test_silent_pdus_send_no_events() -> None:
    """What changes while a PDU is not sent is counted, not told."""
    vehicle = full_vehicle()
    phases = (Phase("asleep", 0, 20 * SECOND), Phase("startup", 20 * SECOND, 60 * SECOND))
    sends = sends_of(vehicle, Day(vehicle, phases, 0), 60)
    assert sends.time_ns.min() >= 20 * SECOND
    assert sends.changes[sends.pdu == PDUS["Mixed"]][0] > 5
    assert sends.value[sends.pdu == PDUS["Request"]][0] > 10


class QuietDay(Day):
    """A day without sends on change."""

    def segments(self, pdu: int, from_ns: int, to_ns: int) -> list[Segment]:
        """The usual segments, without events."""
        return [replace(segment, events=False) for segment in super().segments(pdu, from_ns, to_ns)]


def test_segments_without_events() -> None:
    """Where a segment has no events, PDUs are sent in their cycles alone."""
    vehicle = full_vehicle()
    quiet = sends_of(vehicle, QuietDay(vehicle, read_scenario("drive", 30), 0), 30)
    usual = driving(vehicle, 30)
    assert quiet.due.all()
    assert len(quiet) == usual.due.sum() < len(usual)


# ---------------------------------------------------------------- invariances


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**40),
    st.sampled_from(["drive", "day"]),
    st.lists(st.integers(0, 45 * SECOND), max_size=20),
)
def test_slicing_changes_nothing(drive: int, scenario: str, steps: list[int]) -> None:
    """Advanced in steps of any size, the ECUs send exactly the same."""
    vehicle = full_vehicle(drive)
    day = Day(vehicle, read_scenario(scenario, 45), drive)
    whole = sends_of(vehicle, day, 45, drive)
    assert len(whole) > 3_000
    assert same(whole, sends_of(vehicle, day, 45, drive, sorted(steps)))


def test_rows_are_those_of_the_step() -> None:
    """A step returns the activations due before its end; a PDU's rows are in order of time."""
    vehicle = plain_vehicle()
    day = Day(vehicle, read_scenario("drive", 10), 0)
    sender = EcuSender(vehicle, 0, day, 0)
    for step in range(1, 400):
        sends = sender.advance(step * 25 * MS)
        assert len(sends) > 0
        assert sends.time_ns.min() >= (step - 1) * 25 * MS
        assert sends.time_ns.max() < step * 25 * MS + 5 * MS
    rest = sender.advance(400 * 25 * MS)
    assert len(rest) > 0
    assert len(sender.advance(400 * 25 * MS)) == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**40), st.data())
def test_edits_change_what_they_touch(drive: int, data: st.DataObject) -> None:
    """An edit leaves all PDUs of other ECUs and all activations outside of its time as they were."""
    vehicle = full_vehicle()
    name = data.draw(
        st.sampled_from(["Fast", "Slow", "Group_A", "Switched", "Mixed", "Forwarded", "Plain", "NM_11"])
    )
    start_ns = data.draw(st.integers(0, 20 * SECOND))
    edit = ScheduleEdit(
        PDUS[name],
        start_ns,
        start_ns + data.draw(st.integers(0, 5 * SECOND)),
        cycle_ns=data.draw(st.sampled_from([None, 10 * MS, 35 * MS, 2 * SECOND])),
        shift=data.draw(st.integers(0, 5)),
        mode_active=data.draw(st.sampled_from([None, True, False])),
    )
    before, after = driving(vehicle, 30, drive), driving(vehicle, 30, drive, [edit])
    unit = vehicle.pdus[PDUS[name]].ecu
    for pdu, model in enumerate(vehicle.pdus):
        if model.ecu != unit or (vehicle.pdus[PDUS[name]].forwarded and pdu != PDUS[name]):
            assert same(before.take(before.pdu == pdu), after.take(after.pdu == pdu))
        elif pdu != PDUS[name]:
            a, b = (table.take(table.pdu == pdu) for table in (before, after))
            assert np.array_equal(a.changes, b.changes)
            # Only by the place that the edited PDU takes or leaves in the task.
            assert np.abs(a.time_ns - b.time_ns).max(initial=0) <= 5 * MS
            assert (a.time_ns != b.time_ns).sum() <= 5.2 * SECOND / (5 * MS)
    outside = [
        t.take((t.time_ns < edit.start_ns) | (t.time_ns > edit.end_ns + 20 * MS)) for t in (before, after)
    ]
    assert same(outside[0], outside[1])


def test_mode_edit_changes_one_pdu() -> None:
    """A PDU that stays slow though its mode is active leaves the PDU that announces the mode as it is."""
    vehicle = full_vehicle()
    edit = ScheduleEdit(PDUS["Switched"], 0, 60 * SECOND, mode_active=False)
    before, after = driving(vehicle, 60), driving(vehicle, 60, 0, [edit])
    assert np.diff(times(after, PDUS["Switched"])).min() > 990 * MS
    status = [table.take(table.pdu == PDUS["Status"]) for table in (before, after)]
    assert same(status[0], status[1])


def test_seeds() -> None:
    """The same drive is the same; another drive, and another vehicle, have other jitter and events."""
    vehicle = full_vehicle(1)
    first = driving(vehicle, 10, 1)
    assert same(first, driving(vehicle, 10, 1))
    assert not same(first, driving(vehicle, 10, 2))
    assert not same(first, driving(full_vehicle(2), 10, 1))
    a, b = (times(driving(vehicle, 10, drive), PDUS["Plain"]) for drive in (1, 2))
    assert len(a) == len(b)
    assert (a != b).all()
