"""When one PDU is sent, in activations of the clock that it follows."""

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from training.draws import IntArray, below, exponential, make_key
from training.simulate.clock import Clock, pdu_clock
from training.simulate.scenario import Day, Segment
from training.simulate.tables import BoolArray
from training.simulate.vehicle import Vehicle

__all__ = ["PduSender", "Sending"]

AHEAD_NS = 16_000_000_000
EVENTS_AT_ONCE = 32
NONE: IntArray = np.zeros(0, np.int64)


class Sending(NamedTuple):
    """Sends of a PDU, in order; columns of one length.

    Attributes:
        activation: in which it is sent; no two are the same.
        due: its cycle is due.
        changes: as in `Sends`.
        value: as in `Sends`.
    """

    activation: IntArray
    due: BoolArray
    changes: IntArray
    value: IntArray


class PduSender:
    """When a PDU is sent: in its cycle, on changes, as an event or a request.

    Args:
        vehicle: whose PDU.
        pdu: index of one that is no reply.
        day: says how it is sent when.
        drive: seed of changes and events.
    """

    def __init__(self, vehicle: Vehicle, pdu: int, day: Day, drive: int) -> None:
        self._pdu = pdu
        self._model = model = vehicle.pdus[pdu]
        self._day = day
        self.clock: Clock = pdu_clock(vehicle, pdu)
        self._next = 0
        self._segments: list[Segment] = []
        # Up to here it was sent, and its segments are known.
        self._done_ns = 0
        self._known_ns = 0
        # Activations of sends on change, of the changes, and the state of the mode that it announces.
        self._extra: list[int] = []
        self._new: list[int] = []
        self._count = 0
        self._announces = model.announces and model.mode is not None
        self._mode_changes: list[tuple[int, int]] = [(-1, 0)]
        self._events: Iterator[tuple[int, bool]] | None = None
        if model.event_interval_ns:
            self._events = self._draw_events(make_key("event", vehicle.seed, drive, pdu))
            self._event = next(self._events)
        self._plain = model.role != "nm" and not self._announces and self._events is None

    def advance(self, until: int, until_ns: int) -> Sending:
        """The sends in activations from the last call's end to before `until`.

        Args:
            until: the first activation that is due at `until_ns` or later.
            until_ns: from the start of the trace, not less than in the last call.
        """
        if until_ns > self._known_ns:
            self._look_ahead(until_ns)
        while self._segments and self._segments[0].end_ns <= self._done_ns:
            del self._segments[0]
        parts = [
            self._due(segment, until, until_ns) for segment in self._segments if segment.start_ns < until_ns
        ]
        due = parts[0] if len(parts) == 1 else np.concatenate([NONE, *parts])
        sending = _sending(due) if self._plain else self._with_events(due, until)
        self._next, self._done_ns = until, until_ns
        return sending

    def _look_ahead(self, until_ns: int) -> None:
        from_ns, to_ns = self._known_ns, until_ns + AHEAD_NS
        self._segments += self._day.segments(self._pdu, from_ns, to_ns)
        if self._announces:
            self._announce(from_ns, to_ns)
        self._known_ns = to_ns

    def _due(self, segment: Segment, until: int, until_ns: int) -> IntArray:
        """Activations, from the last call's end to before `until`, in which a segment's cycle is due."""
        if not segment.cycle_ns:
            return NONE
        first = self._next
        if segment.start_ns > self._done_ns:
            first = self.clock.first_from(segment.start_ns)
        if segment.end_ns < until_ns:
            until = self.clock.first_from(segment.end_ns)
        period = segment.cycle_ns // self.clock.raster_ns
        return np.arange(first + (self._model.phase + segment.shift - first) % period, until, period)

    def _with_events(self, due: IntArray, until: int) -> Sending:
        if self._events is not None:
            while self._event[0] < until:
                self._add(*self._event)
                self._event = next(self._events)
        upto = bisect_right(self._extra, until - 1)
        extra, self._extra = (
            [k for k in self._extra[:upto] if self._segment_at(k, events=True)],
            self._extra[upto:],
        )
        activation = due
        is_due = np.ones(len(due), np.bool_)
        if extra:
            activation = np.union1d(due, np.array(extra, np.int64))
            is_due = np.isin(activation, due)
        upto = bisect_right(self._new, until - 1)
        new, self._new = self._new[:upto], self._new[upto:]
        changes = self._count + np.searchsorted(np.array(new, np.int64), activation, side="right")
        self._count += upto
        return Sending(activation, is_due, changes, self._values(activation, changes))

    def _values(self, activation: IntArray, changes: IntArray) -> IntArray:
        if self._model.role == "request":
            return changes
        if self._model.role == "nm":
            values = [getattr(self._segment_at(k), "value", 0) for k in activation.tolist()]
            return np.array(values, np.int64)
        if self._announces:
            since = np.array([change[0] for change in self._mode_changes], np.int64)
            states = np.array([change[1] for change in self._mode_changes], np.int64)
            return states[np.searchsorted(since, activation, side="right") - 1]
        return np.zeros(len(activation), np.int64)

    def _segment_at(self, activation: int, events: bool = False) -> Segment | None:
        time_ns = self.clock.time_ns(activation)
        for segment in self._segments:
            if segment.start_ns <= time_ns < segment.end_ns:
                return segment if segment.events or not events else None
        return None

    def _add(self, activation: int, is_new: bool) -> None:
        self._extra.append(activation)
        if is_new:
            self._new.append(activation)

    def _announce(self, from_ns: int, to_ns: int) -> None:
        """Note the mode's changes in [from_ns, to_ns), and the sends that tell them."""
        while len(self._mode_changes) > 1 and self._mode_changes[1][0] <= self._next:
            del self._mode_changes[0]
        for start_ns, end_ns in self._day.mode_spans(self._pdu, from_ns - 1, to_ns + 1):
            for time_ns, state in ((start_ns, 1), (end_ns, 0)):
                if from_ns <= time_ns < to_ns:
                    first = self.clock.first_from(time_ns)
                    self._mode_changes.append((first, state))
                    for repetition in range(self._model.repetitions + 1):
                        self._add(first + repetition * self._model.repetition_activations, repetition == 0)
        self._extra = sorted(set(self._extra))

    def _draw_events(self, key: int) -> Iterator[tuple[int, bool]]:
        """Activations of sends on change or in bursts, and whether the value is new in them."""
        model = self._model
        burst = model.send_type == "event"
        activation = number = 0
        while True:
            counter = 2 * np.arange(number, number + EVENTS_AT_ONCE)
            number += EVENTS_AT_ONCE
            # In microseconds, so that the mean may be hours.
            waits_us = exponential(key, counter, model.event_interval_ns // 1000)
            repetitions = below(key, counter + 1, 2 * model.repetitions + 1) if burst else model.repetitions
            for wait_us, count in np.broadcast(waits_us, repetitions):
                activation += 1 + int(wait_us) * 1000 // self.clock.raster_ns
                yield activation, True
                for _ in range(int(count)):
                    activation += model.repetition_activations
                    # A burst brings new values, repetitions of a change the same one again.
                    yield activation, burst


def _sending(due: IntArray) -> Sending:
    zeros = np.zeros(len(due), np.int64)
    return Sending(due, np.ones(len(due), np.bool_), zeros, zeros)
