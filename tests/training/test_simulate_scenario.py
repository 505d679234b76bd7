"""A vehicle's day: phases, activity, and when each PDU starts, settles and stops."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.errors import ConfigError
from ecustream.traffic import STATE_INIT, STATE_NORMAL, STATE_TRANSITION
from tests.training.handmade import MS, SECOND, cyclic, full_vehicle, vehicle_of
from tests.training.rides import OFF, PDUS, RESTART, RIDE, WAKE, day_of, days, phases_of, sent_ns, span
from training.simulate.scenario import Day, Phase, Segment, read_scenario

# ---------------------------------------------------------------- scenarios


@settings(max_examples=60, deadline=None)
@given(st.floats(20, 3 * 86_400))
def test_day_scenario(seconds: float) -> None:
    """A day's phases follow without gap from 0 to the end; it sleeps, wakes, drives, shuts down, restarts."""
    phases = read_scenario("day", seconds)
    assert (phases[0].start_ns, phases[-1].end_ns) == (0, round(seconds * SECOND))
    assert all(a.end_ns == b.start_ns for a, b in itertools.pairwise(phases))
    assert all(phase.end_ns > phase.start_ns for phase in phases)
    kinds = [phase.kind for phase in phases]
    assert set(kinds) == {"asleep", "startup", "drive", "shutdown"}
    pairs = set(itertools.pairwise(kinds))
    assert (("shutdown", "startup") in pairs) == (seconds >= 40)
    assert ("shutdown", "asleep") in pairs
    driving = sum(phase.end_ns - phase.start_ns for phase in phases if phase.kind == "drive")
    assert driving > seconds * SECOND * (0.1 if seconds < 120 else 0.4)
    assert len(phases) < 200 + seconds / 150


def test_drive_scenario() -> None:
    """The scenario `drive` is one phase."""
    assert read_scenario("drive", 2.5) == (Phase("drive", 0, 2_500_000_000),)


def test_scenario_file_repeats(tmp_path: Path) -> None:
    """The phases of a file repeat until the trace ends, the last one cut."""
    path = tmp_path / "commute.toml"
    path.write_text(
        '[[phase]]\nkind = "startup"\nseconds = 5\n[[phase]]\nkind = "drive"\nseconds = 1.5\n'
        '[[phase]]\nkind = "shutdown"\nseconds = 3\n'
    )
    assert read_scenario(str(path), 12) == phases_of(
        [("startup", 5), ("drive", 1.5), ("shutdown", 3), ("startup", 2.5)]
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[phase]]\nkind = 'park'\nseconds = 3", r"phase\[1\]\.kind: must be one of asleep, "),
        ("[[phase]]\nkind = 'drive'\nseconds = 'x'", r"phase\[1\]\.seconds: must be a number, for drive 1"),
        ("[[phase]]\nkind = 'drive'\nseconds = true", r"phase\[1\]\.seconds"),
        ("[[phase]]\nkind = 'drive'\nseconds = inf", r"phase\[1\]\.seconds"),
        ("[[phase]]\nkind = 'drive'\nseconds = 1e300", r"phase\[1\]\.seconds"),
        ("[[phase]]\nkind = 'drive'\nseconds = nan", r"phase\[1\]\.seconds"),
        ("[[phase]]\nkind = 'drive'\nseconds = 0.5", r"phase\[1\]\.seconds"),
        ("[[phase]]\nkind = 'drive'", r"phase\[1\]\.seconds"),
        ("[[phase]]\nseconds = 5", r"phase\[1\]\.kind"),
        (
            "[[phase]]\nkind = 'shutdown'\nseconds = 9\n[[phase]]\nkind = 'startup'\nseconds = 3",
            r"phase\[2\]\.seconds: must be a number, for startup 4 to 1000000000",
        ),
        ("[[phase]]\nkind = 'drive'\nseconds = 5\nspeed = 3", r"phase\[1\]\.speed: no such key"),
        ("phase = 3", "phase: must be"),
        ("phase = [3]", r"phase\[1\]: must be a table"),
        ("", "phase: must be"),
        ("[[phases]]\nkind = 'drive'", "phases: no such key"),
        (
            "[[phase]]\nkind = 'asleep'\nseconds = 5\n[[phase]]\nkind = 'drive'\nseconds = 5",
            r"phase\[2\]\.kind: drive cannot follow asleep, only asleep or startup",
        ),
        (
            "[[phase]]\nkind = 'startup'\nseconds = 5\n[[phase]]\nkind = 'drive'\nseconds = 5",
            r"phase\[1\]\.kind: startup cannot follow drive",
        ),
        ("[[phase", "is not valid TOML"),
    ],
)
def test_bad_scenario_files(tmp_path: Path, text: str, words: str) -> None:
    """A wrong scenario file is refused in a sentence that names the file and the key."""
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"wrong\.toml: {words}"):
        read_scenario(str(path), 30)


def test_unknown_scenario() -> None:
    """An argument that is neither a name nor a file is refused."""
    with pytest.raises(ConfigError, match="--scenario night: is neither drive nor day nor a file"):
        read_scenario("night", 30)


# ---------------------------------------------------------------- whole days


@settings(max_examples=60, deadline=None)
@given(days(), st.integers(1, 7 * SECOND))
def test_activity_covers_the_day(day_and_end: tuple[Day, int], step_ns: int) -> None:
    """The activity states of a day, asked for in steps, follow without gap, overlap or repetition."""
    day, end_ns = day_and_end
    step_ns = max(step_ns, end_ns // 40)
    rows = [row for at in range(0, end_ns, step_ns) for row in day.context(10, at, min(at + step_ns, end_ns))]
    rows += day.context_open(10, end_ns)
    states = [row for row in rows if row.kind == "activity"]
    assert (states[0].start_ns, states[-1].end_ns) == (10, 10 + end_ns)
    assert all(a.end_ns == b.start_ns and a.state != b.state for a, b in itertools.pairwise(states))
    for row in states:
        for time_ns in (row.start_ns, (row.start_ns + row.end_ns) // 2, row.end_ns - 1):
            assert day.activity_at(time_ns - 10) == row.state


@settings(max_examples=60, deadline=None)
@given(days(), st.data())
def test_nothing_is_sent_while_asleep(day_and_end: tuple[Day, int], data: st.DataObject) -> None:
    """While the activity state is "not initialized" or the phase "asleep", no PDU has a segment."""
    day, end_ns = day_and_end
    pdu = data.draw(st.sampled_from(sorted(PDUS.values())))
    for phase in day.phases:
        if phase.kind == "asleep":
            assert day.segments(pdu, phase.start_ns, phase.end_ns) == []
            assert day.activity_at(phase.start_ns) == STATE_INIT
    for segment in day.segments(pdu, 0, end_ns):
        assert day.activity_at(segment.start_ns) != STATE_INIT
        assert day.activity_at(segment.end_ns - 1) != STATE_INIT


@settings(max_examples=60, deadline=None)
@given(days(), st.data())
def test_segments_do_not_depend_on_the_question(day_and_end: tuple[Day, int], data: st.DataObject) -> None:
    """Segments are in order, do not overlap, and are the same when asked for in two parts by another day."""
    day, end_ns = day_and_end
    pdu = data.draw(st.sampled_from(sorted(PDUS.values())))
    cut_ns = data.draw(st.integers(1, end_ns - 1))
    whole = day.segments(pdu, 0, end_ns)
    assert all(a.end_ns <= b.start_ns for a, b in itertools.pairwise(whole))
    assert all(0 <= part.start_ns < part.end_ns <= end_ns for part in whole)
    fresh = day.edited([])
    late = fresh.segments(pdu, cut_ns, end_ns)
    early = fresh.segments(pdu, 0, cut_ns)
    if (
        early
        and late
        and replace(early[-1], end_ns=late[0].end_ns) == replace(late[0], start_ns=early[-1].start_ns)
    ):
        early, late = [*early[:-1], replace(early[-1], end_ns=late[0].end_ns)], late[1:]
    assert early + late == whole


@settings(max_examples=60, deadline=None)
@given(days())
def test_all_is_sent_in_normal_operation(day_and_end: tuple[Day, int]) -> None:
    """In normal operation every PDU has segments throughout; `steady` is within it, with regular cycles."""
    day, end_ns = day_and_end
    for row in [*day.context(0, 0, end_ns), *day.context_open(0, end_ns)]:
        if row.state != STATE_NORMAL:
            continue
        assert row.start_ns == 0 or not day.steady(row.start_ns - 1, row.start_ns)
        for pdu in PDUS.values():
            assert span(day.segments(pdu, row.start_ns, row.end_ns)) == (row.start_ns, row.end_ns)
        settled = [at for at in range(row.start_ns, row.end_ns, SECOND // 2) if day.steady(at, row.end_ns)]
        if settled:
            assert all(
                len(day.segments(PDUS[name], settled[0], row.end_ns)) == 1
                for name in ("Fast", "Slow", "SD_10")
            )
        assert not day.steady(row.start_ns, row.end_ns + 1)


# ---------------------------------------------------------------- start-up and shutdown


@pytest.mark.parametrize("drive", range(5))
def test_start_up_order(drive: int) -> None:
    """A node's NM comes first, at its delay; its PDUs start up to 0.3 s after its boot time."""
    day, vehicle = day_of(RIDE, drive), full_vehicle()
    assert day.activity_at(WAKE - 1) == STATE_INIT
    assert day.activity_at(WAKE) == STATE_TRANSITION
    starts = {}
    for name, pdu in PDUS.items():
        starts[name] = day.segments(pdu, 0, OFF)[0].start_ns
    nm = [starts["NM_10"], starts["NM_11"]]
    # The waker, whichever it is, begins at once.
    assert min(nm) == WAKE
    assert nm[0] == WAKE
    assert nm[1] in (WAKE, WAKE + vehicle.ecus[1].wake_delay_ns)
    for name, start_ns in starts.items():
        model = vehicle.pdus[PDUS[name]]
        boot_ns = nm[model.ecu] + vehicle.ecus[model.ecu].start_delay_ns
        if model.role in ("nm", "sync", "follow_up"):
            assert start_ns == nm[model.ecu]
        elif model.needs_ignition:
            assert WAKE + 1_500 * MS <= start_ns <= WAKE + 3_300 * MS
        else:
            assert boot_ns <= start_ns <= boot_ns + 300 * MS
    normal_ns = max(*starts.values(), max(nm) + SECOND)
    assert [day.activity_at(normal_ns - 1), day.activity_at(normal_ns)] == [STATE_TRANSITION, STATE_NORMAL]


def test_starts_differ() -> None:
    """Offsets differ from drive to drive and between PDUs, not within a group."""

    def starts(name: str) -> list[int]:
        return [day_of(RIDE, d).segments(PDUS[name], 0, OFF)[0].start_ns for d in range(20)]

    assert np.ptp(starts("Fast")) > 150 * MS
    assert starts("Fast") != starts("Slow")
    assert starts("Group_A") == starts("Group_B")


@pytest.mark.parametrize("drive", range(6))
def test_irregular_start(drive: int) -> None:
    """A PDU is first sent in the activation after its start; one to three intervals later it is in phase."""
    day = day_of(RIDE, drive)
    for name in ("Fast", "Group_A", "Plain", "Mixed"):
        segments = day.segments(PDUS[name], 0, OFF)
        model = full_vehicle().pdus[PDUS[name]]
        assert model.cycle_ns is not None
        assert 2 <= len(segments) <= 4
        assert segments[-1].shift == 0
        times = sent_ns(day, name, 0, segments[-1].start_ns + 2 * SECOND)
        assert 0 <= times[0] - segments[0].start_ns < 5 * MS
        assert segments[-1].start_ns - segments[0].start_ns == (len(segments) - 1) * model.cycle_ns
    assert sent_ns(day, "Group_A", WAKE, OFF) == sent_ns(day, "Group_B", WAKE, OFF)


def test_number_of_irregular_intervals() -> None:
    """One, two or three irregular intervals all happen; a slow PDU has one."""
    counts = {
        name: {len(day_of(RIDE, drive).segments(PDUS[name], 0, OFF)) - 1 for drive in range(20)}
        for name in ("Fast", "Slow")
    }
    assert counts == {"Fast": {1, 2, 3}, "Slow": {1}}


@pytest.mark.parametrize("drive", range(4))
def test_network_management_start(drive: int) -> None:
    """NM: five messages 20 ms apart, Repeat Message for a second in all, the waker with Active Wakeup."""
    day = day_of(RIDE, drive)
    wakers = 0
    for name, cycle_ns in (("NM_10", 500 * MS), ("NM_11", 640 * MS)):
        segments = day.segments(PDUS[name], 0, OFF)
        times = sent_ns(day, name, 0, OFF)
        expected = [20 * MS] * 4 + [cycle_ns] * (len(times) - 5)
        assert np.abs(np.diff(times) - expected).max() < 100_000
        assert [s.value & 1 for s in segments] == [1, 1, 0]
        assert segments[2].start_ns - segments[0].start_ns == SECOND
        assert len({s.value >> 4 for s in segments[:2]}) == 1
        assert segments[2].value == 0
        wakers += segments[0].value >> 4
    assert wakers == 1


def test_any_node_wakes() -> None:
    """The waker is drawn anew."""
    wakers = {day_of(RIDE, drive).segments(PDUS["NM_10"], 0, OFF)[0].value for drive in range(20)}
    assert wakers == {0x01, 0x11}


def test_service_discovery_start() -> None:
    """Offers repeat after 30, 60 and 120 ms, then come in their cycle."""
    times = sent_ns(day_of(RIDE), "SD_10", 0, OFF)
    expected = [30 * MS, 60 * MS, 120 * MS] + [SECOND] * (len(times) - 4)
    assert np.abs(np.diff(times) - expected).max() < 100_000


@pytest.mark.parametrize("drive", range(6))
def test_shutdown_order(drive: int) -> None:
    """PDUs stop by their delay or until NM stops; the coordinator is last; the bus sleeps 3.5 s after."""
    day, vehicle = day_of(RIDE, drive), full_vehicle()
    ends = {name: day.segments(pdu, OFF - SECOND, OFF + 20 * SECOND)[-1].end_ns for name, pdu in PDUS.items()}
    assert ends["Ignition"] == OFF + 1_500 * MS
    assert ends["Late_Ignition"] == OFF + 4_500 * MS
    # ECU 1 waits for its last PDU, and the coordinator for ECU 1.
    assert ends["NM_11"] == OFF + 4_500 * MS
    assert ends["NM_10"] == ends["NM_11"]
    for name, end_ns in ends.items():
        model = vehicle.pdus[PDUS[name]]
        assert OFF + 300 * MS <= end_ns <= ends[f"NM_1{model.ecu}"]
    last = day.segments(PDUS["NM_10"], OFF - SECOND, OFF + 20 * SECOND)
    assert [segment.value for segment in last] == [0, 0x08]
    assert last[1].end_ns - last[1].start_ns == 3 * 500 * MS
    sleep_ns = ends["NM_10"] + 3_500 * MS
    assert [day.activity_at(t) for t in (OFF - 1, OFF, sleep_ns - 1, sleep_ns)] == [1, 2, 2, 0]


def test_node_without_slow_stops() -> None:
    """A node whose PDUs do not need ignition releases the network 2 to 4 s after ignition off."""
    vehicle = vehicle_of([cyclic("NM", 500, role="nm"), cyclic("A", 10)])
    stops = [
        Day(vehicle, phases_of(RIDE), drive).segments(0, OFF - SECOND, OFF + 9 * SECOND)[-1].end_ns - OFF
        for drive in range(40)
    ]
    assert 2 * SECOND <= min(stops) < 2_300 * MS
    assert 3_700 * MS < max(stops) <= 4 * SECOND


def test_short_shutdown() -> None:
    """A shutdown that is too short ends where the sleep begins."""
    day = day_of([("drive", 5), ("shutdown", 2), ("asleep", 5)])
    ends = [day.segments(pdu, 0, 12 * SECOND)[-1].end_ns for pdu in PDUS.values()]
    assert max(ends) == 7 * SECOND
    assert [day.activity_at(t * SECOND) for t in (4, 5, 6, 7)] == [1, 2, 2, 0]


def test_quick_restart() -> None:
    """PDUs that were still sent go on in phase, the others start again, NM repeats its burst."""
    again_ns = OFF + 2_500 * MS
    kept = stopped = 0
    for drive in range(6):
        day = day_of(RESTART, drive)
        for name, pdu in PDUS.items():
            if name in ("NM_10", "NM_11", "SD_10", "Switched"):
                continue
            segments = day.segments(pdu, OFF, OFF + 20 * SECOND)
            gaps = [(a.end_ns, b.start_ns) for a, b in itertools.pairwise(segments) if a.end_ns < b.start_ns]
            assert len(gaps) <= 1
            kept += not gaps
            stopped += len(gaps)
            if gaps:
                assert gaps[0][0] <= again_ns < gaps[0][1]
            else:
                assert {segment.shift for segment in segments} == {0}
        assert day.segments(PDUS["Late_Ignition"], OFF, again_ns + SECOND)[-1].end_ns == again_ns + SECOND
        values = [s.value for s in day.segments(PDUS["NM_11"], OFF, again_ns + SECOND // 2)]
        assert values in ([0, 0, 0x01, 0x01], [0, 0x11, 0x11])
        # One interval of activity from ignition off to normal operation.
        rows = [row for row in day.context(0, OFF, OFF + 20 * SECOND) if row.kind == "activity"]
        assert [row.state for row in rows] == [STATE_NORMAL, STATE_TRANSITION]
        assert rows[1].start_ns == OFF
        assert again_ns + SECOND < rows[1].end_ns < again_ns + 4 * SECOND
    assert kept > 20
    assert stopped > 10


def test_drive_is_running_from_the_start() -> None:
    """A trace that begins in the middle of driving has everything running, without start-up."""
    day = day_of([("drive", 60)])
    assert day.steady(0, 60 * SECOND)
    for name, pdu in PDUS.items():
        if name != "Switched":
            cycle_ns = full_vehicle().pdus[pdu].cycle_ns or 0
            assert day.segments(pdu, 0, 60 * SECOND) == [Segment(0, 60 * SECOND, cycle_ns)]
    assert next((c.kind, c.end_ns) for c in day.context_open(0, 60 * SECOND)) == ("activity", 60 * SECOND)


def test_sleep_alone() -> None:
    """A trace in which the vehicle sleeps all the time has no traffic, one state and no modes."""
    day = day_of([("asleep", 60)])
    assert all(day.segments(pdu, 0, 60 * SECOND) == [] for pdu in PDUS.values())
    assert [(row.start_ns, row.state) for row in day.context_open(5, 60 * SECOND)] == [(5, STATE_INIT)]
    assert day.mode_changes(0, 0, 60 * SECOND) == []
    assert not day.steady(0, SECOND)
