"""The day of a vehicle: when it sleeps, wakes, drives and shuts down, and what each PDU does then."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from ecustream.traffic import ACTIVITY_STATES, STATE_INIT, STATE_NORMAL, STATE_TRANSITION
from training.labels import Context
from training.simulate.awake import Planner, awake_times
from training.simulate.course import Courses
from training.simulate.modes import ModeTimes
from training.simulate.phases import read_scenario
from training.simulate.segments import FOREVER, Phase, PhaseKind, ScheduleEdit, Segment, clip, overlay
from training.simulate.vehicle import Vehicle

__all__ = ["FOREVER", "Day", "Phase", "PhaseKind", "ScheduleEdit", "Segment", "read_scenario"]

State = tuple[int, int, int]


class Day:
    """What happens to a vehicle in a trace: activity, modes, and how each PDU is sent.

    All of it is a function of the arguments and of the time that is asked for, not of what was asked before;
    memory does not grow with the times asked for. The last phase is taken to go on after the trace.

    A phase `startup` begins with the waking and lasts at least 4 s. Ignition is turned off where a phase
    `shutdown` begins. The activity state is "startup-shutdown" from the waking until all nodes have left
    Repeat Message and all PDUs are sent, and from ignition off until the bus sleeps, 3.5 s after the last
    node released the network, or until the phase `asleep`, in which nothing is sent, whichever is first.

    Args:
        vehicle: which vehicle.
        phases: from `read_scenario`.
        drive: seed of what happens.
        edits: what faults change in schedules; where cycles or modes of two overlap, the later one in the
            sequence decides; shifts add up.
    """

    def __init__(
        self, vehicle: Vehicle, phases: Sequence[Phase], drive: int, edits: Sequence[ScheduleEdit] = ()
    ) -> None:
        self.phases = tuple(phases)
        self.edits = tuple(edits)
        self._vehicle = vehicle
        self._drive = drive
        self._awake = awake_times(self.phases)
        self._wakes_ns = [awake.wake_ns for awake in self._awake]
        self._planner = Planner(vehicle, drive, self._awake)
        self._courses = Courses(vehicle, self._planner, self._awake)
        self._modes = ModeTimes(vehicle, drive)
        self._edits_of: dict[int, list[ScheduleEdit]] = {}
        for edit in self.edits:
            self._edits_of.setdefault(edit.pdu, []).append(edit)

    def edited(self, edits: Sequence[ScheduleEdit]) -> "Day":
        """The same day with further edits."""
        return Day(self._vehicle, self.phases, self._drive, (*self.edits, *edits))

    def segments(self, pdu: int, from_ns: int, to_ns: int) -> list[Segment]:
        """How a PDU is sent in [from_ns, to_ns), in order of time and cut to it; gaps: it is not sent."""
        model = self._vehicle.pdus[pdu]
        edits = [e for e in self._edits_of.get(pdu, ()) if e.start_ns < to_ns and e.end_ns > from_ns]
        segments = self._usual(pdu, from_ns, to_ns)
        for edit in edits:
            if edit.keeps_on:
                segments = self._kept_on(pdu, segments, max(from_ns, edit.start_ns), min(to_ns, edit.end_ns))
        fast_ns = model.fast_cycle_ns
        if fast_ns is not None:
            for start_ns, end_ns in self.mode_spans(pdu, from_ns, to_ns):
                segments = overlay(segments, start_ns, end_ns, partial(replace, cycle_ns=fast_ns))
        for edit in edits:
            segments = overlay(segments, edit.start_ns, edit.end_ns, partial(_edit, edit=edit))
        return segments

    def mode_spans(self, pdu: int, from_ns: int, to_ns: int) -> list[tuple[int, int]]:
        """When the mode of a PDU is active in [from_ns, to_ns), as far as the PDU knows; cut to it."""
        mode = self._vehicle.pdus[pdu].mode
        if mode is None:
            return []
        spans = [Segment(start_ns, end_ns, 0) for start_ns, end_ns in self._mode_spans(mode, from_ns, to_ns)]
        for edit in self._edits_of.get(pdu, ()):
            if edit.mode_active is not None:
                outside = clip(spans, from_ns, edit.start_ns) + clip(spans, edit.end_ns, to_ns)
                inside = [Segment(edit.start_ns, edit.end_ns, 0)] if edit.mode_active else []
                spans = sorted(outside + inside, key=lambda span: span.start_ns)
        return _joined((span.start_ns, span.end_ns) for span in clip(spans, from_ns, to_ns))

    def mode_changes(self, mode: int, from_ns: int, to_ns: int) -> list[tuple[int, bool]]:
        """When a mode becomes active (True) or idle (False) in [from_ns, to_ns), in order of time."""
        changes = [
            change
            for start_ns, end_ns in self._mode_spans(mode, from_ns - 1, to_ns)
            for change in ((start_ns, True), (end_ns, False))
        ]
        return [change for change in changes if from_ns <= change[0] < to_ns]

    def mode_active(self, mode: int, time_ns: int) -> bool:
        """Whether a mode is active at a time."""
        return any(True for _ in self._mode_spans(mode, time_ns, time_ns + 1))

    def activity_at(self, time_ns: int) -> int:
        """The activity state at a time: 0 not initialized, 1 normal operation, 2 startup or shutdown."""
        return next(
            state for start_ns, end_ns, state in self._states(time_ns) if start_ns <= time_ns < end_ns
        )

    def steady(self, from_ns: int, to_ns: int) -> bool:
        """Whether all PDUs are in normal operation throughout [from_ns, to_ns), in their cycles."""
        number = bisect_right(self._wakes_ns, from_ns) - 1
        if number < 0:
            return False
        return self._planner.times(number).settled_ns <= from_ns and to_ns <= self._awake[number].off_ns

    def context(self, start_ns: int, from_ns: int, to_ns: int) -> list[Context]:
        """The activity states and modes that end in [from_ns, to_ns), by time of their end.

        Args:
            start_ns: start of the trace, nanoseconds since 1970.
            from_ns: from the start of the trace.
            to_ns: the end, excluded.
        """
        rows = [
            _activity(start_ns, max(0, state[0]), state[1], state[2])
            for state in self._states_between(from_ns, to_ns)
            if from_ns <= state[1] < to_ns and state[1] > 0
        ]
        rows += [
            Context(start_ns + active[0], start_ns + active[1], "mode", model.name)
            for mode, model in enumerate(self._vehicle.modes)
            for active in self._mode_spans(mode, from_ns - 1, to_ns)
            if from_ns <= active[1] < to_ns
        ]
        return sorted(rows, key=lambda row: row.end_ns)

    def context_open(self, start_ns: int, end_ns: int) -> list[Context]:
        """The activity state and the modes that go on just before `end_ns`, cut there.

        They are what `context` did not say up to `end_ns`, the end of the trace.
        """
        at = next(s for s in self._states(end_ns - 1) if s[0] < end_ns <= s[1])
        rows = [_activity(start_ns, max(0, at[0]), end_ns, at[2])]
        rows += [
            Context(start_ns + active[0], start_ns + end_ns, "mode", model.name)
            for mode, model in enumerate(self._vehicle.modes)
            for active in self._mode_spans(mode, end_ns - 1, end_ns)
        ]
        return rows

    def _numbers(self, from_ns: int, to_ns: int) -> range:
        """The times awake that overlap [from_ns, to_ns), and perhaps the one before."""
        first = max(0, bisect_right(self._wakes_ns, from_ns) - 1)
        return range(first, bisect_right(self._wakes_ns, to_ns - 1))

    def _usual(self, pdu: int, from_ns: int, to_ns: int) -> list[Segment]:
        return [
            segment
            for number in self._numbers(from_ns, to_ns)
            for segment in clip(self._courses.segments(pdu, number), from_ns, to_ns)
        ]

    def _kept_on(self, pdu: int, segments: list[Segment], from_ns: int, to_ns: int) -> list[Segment]:
        """The segments without gaps in [from_ns, to_ns): a PDU that does not stop keeps its phase."""
        cycle_ns = self._vehicle.pdus[pdu].cycle_ns or 0
        limits = [-FOREVER, *self._wakes_ns, FOREVER]
        first = bisect_right(self._wakes_ns, from_ns) - 1
        for number in range(first, self._numbers(from_ns, to_ns).stop):
            low_ns, high_ns = max(from_ns, limits[number + 1]), min(to_ns, limits[number + 2])
            if low_ns < high_ns:
                course = self._courses.segments(pdu, number) if number >= 0 else []
                shift = course[-1].shift if course else 0
                segments = _fill(segments, Segment(low_ns, high_ns, cycle_ns, shift))
        return segments

    def _mode_spans(self, mode: int, from_ns: int, to_ns: int) -> Iterator[tuple[int, int]]:
        for number in self._numbers(from_ns, to_ns):
            limits = self._planner.times(number).settled_ns, self._awake[number].off_ns
            yield from self._modes.active(mode, number, limits, from_ns, to_ns)

    def _states_between(self, from_ns: int, to_ns: int) -> list[State]:
        states = self._states(from_ns - 1)
        for wake_ns in self._wakes_ns[bisect_right(self._wakes_ns, from_ns - 1) :]:
            if wake_ns >= to_ns:
                break
            states += self._states(wake_ns)
        # One that an interrupted shutdown and the start-up share was told by both.
        return list(dict.fromkeys(states))

    def _states(self, time_ns: int) -> list[State]:
        """The activity states around a time: those that begin in its time awake and the sleep after."""
        number = bisect_right(self._wakes_ns, time_ns) - 1
        if number < 0:
            return [(-FOREVER, self._wakes_ns[0] if self._awake else FOREVER, STATE_INIT)]
        awake, times = self._awake[number], self._planner.times(number)
        # A shutdown that is interrupted is one state with the start-up that follows.
        begin_ns = awake.wake_ns
        if awake.quick and self._planner.times(number - 1).sleep_ns >= begin_ns:
            begin_ns = self._awake[number - 1].off_ns
        following = self._awake[number + 1] if number + 1 < len(self._awake) else None
        next_ns = following.wake_ns if following else FOREVER
        sleep_ns = min(times.sleep_ns, awake.end_ns)
        interrupted = following is not None and following.quick and times.sleep_ns >= next_ns
        states = [
            (begin_ns, times.normal_ns, STATE_TRANSITION),
            (times.normal_ns, awake.off_ns, STATE_NORMAL),
        ]
        if interrupted and following is not None:
            states.append((awake.off_ns, self._planner.times(number + 1).normal_ns, STATE_TRANSITION))
        else:
            states += [(awake.off_ns, sleep_ns, STATE_TRANSITION), (sleep_ns, next_ns, STATE_INIT)]
        return [state for state in states if state[0] < state[1]]


def _activity(start_ns: int, from_ns: int, to_ns: int, state: int) -> Context:
    return Context(start_ns + from_ns, start_ns + to_ns, "activity", ACTIVITY_STATES[state], state)


def _edit(segment: Segment, edit: ScheduleEdit) -> Segment:
    cycle_ns = segment.cycle_ns if edit.cycle_ns is None else edit.cycle_ns
    return replace(segment, cycle_ns=cycle_ns, shift=segment.shift + edit.shift)


def _fill(segments: list[Segment], filling: Segment) -> list[Segment]:
    """The segments and, in the gaps between them, parts of `filling`."""
    result = []
    at_ns = filling.start_ns
    for segment in segments:
        result += clip([filling], at_ns, segment.start_ns)
        result.append(segment)
        at_ns = max(at_ns, segment.end_ns)
    return result + clip([filling], at_ns, filling.end_ns)


def _joined(spans: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order of time, those that touch made one."""
    joined: list[tuple[int, int]] = []
    for start_ns, end_ns in spans:
        if joined and start_ns <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end_ns, joined[-1][1])
        else:
            joined.append((start_ns, end_ns))
    return joined
