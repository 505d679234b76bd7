"""Faults that only the context tells, and controls that are no faults."""

import numpy as np
import pytest

from tests.training.test_simulate_faults import (
    ANSWER,
    ASK,
    AT_NS,
    CLEAN,
    CLEAN_WIRE,
    DAY,
    END_NS,
    ESC,
    HCA,
    LICHT,
    MOTOR,
    MS,
    SECOND,
    VEHICLE,
    capture_with,
    changes,
    must_draw,
    outcome,
    sent_with,
    times_of,
    traffic,
)
from training.draws import Draws
from training.labels import Context, Label
from training.simulate.faults.context import WrongState
from training.simulate.scenario import Day, Phase


def test_wrong_mode() -> None:
    """A PDU runs fast while its mode is idle, or slow while it is active, with no other change."""
    seen = set()
    for drive in range(8):
        day = Day(VEHICLE, (Phase("drive", 0, END_NS),), drive)
        at_ns = 10 * SECOND
        fault = WrongState.draw(Draws("mode", drive), VEHICLE, day, at_ns, 2, 6 * SECOND, target=HCA)
        if fault is None or not fault.fits(day):
            continue
        active = day.mode_active(0, at_ns)
        seen.add(active)
        clean, sends = traffic(day), traffic(day.edited(fault.edits))
        fault.on_sends(sends, 0, END_NS)
        label = fault.truth(0)
        assert isinstance(label, Label)
        assert label.pdus == ["HCA_04"]
        inside = times_of(sends, HCA, label)
        rate = (len(inside) - 1) * SECOND / (label.end_ns - label.start_ns)
        assert rate < 2 if active else rate > 40
        assert all(label.start_ns <= time <= label.end_ns for _, time, _ in changes(clean, sends))
        assert len(clean) != len(sends)
    assert seen == {True, False}


def test_sent_after_shutdown() -> None:
    """A PDU that needs ignition is sent in its cycle for a while after it should have stopped."""
    off_ns = 10 * SECOND
    day = Day(VEHICLE, (Phase("drive", 0, off_ns), Phase("shutdown", off_ns, END_NS)), 1)
    fault = WrongState.draw(Draws("off"), VEHICLE, day, 8 * SECOND, 2, 12 * SECOND, target=LICHT, size=2.0)
    assert fault is not None
    assert fault.fits(day)
    clean, sends = traffic(day), traffic(day.edited(fault.edits))
    fault.on_sends(sends, 0, END_NS)
    label = fault.truth(0)
    assert isinstance(label, Label)
    added = changes(clean, sends)
    assert {pdu for pdu, _, _ in added} == {LICHT}
    assert (label.start_ns, label.end_ns) == (added[0][1], added[-1][1])
    assert len(added) == 40
    assert label.start_ns - clean.time_ns[clean.pdu == LICHT][-1] == pytest.approx(50 * MS, abs=MS)


@pytest.mark.parametrize(("kind", "gone", "stays"), [("no_reply", ANSWER, ASK), ("lone_reply", ASK, ANSWER)])
def test_service_without_its_half(kind: str, gone: int, stays: int) -> None:
    """Requests have no replies, or replies no requests; the label reaches from one to the other."""
    sends, _, _, label = outcome(must_draw(kind, size=3), [AT_NS + 52 * MS])
    assert isinstance(label, Label)
    values = {pdu: sends.value[sends.pdu == pdu].tolist() for pdu in (gone, stays)}
    assert sorted(set(values[stays]) - set(values[gone])) == list(range(20, 23))
    assert len(values[stays]) == (CLEAN.pdu == stays).sum()
    assert label.pdus == ["Ask_06", "Answer_11"]
    assert label.end_ns - label.start_ns == 2 * 310 * MS + 4 * MS


def test_order() -> None:
    """Two neighbours change places in the given number of activations, in their datagram too."""
    sends, wire, _, label = outcome(must_draw("order", target=ESC, size=4), [AT_NS + 30 * MS])
    assert isinstance(label, Label)
    assert label.pdus == ["ESC_01", "ESP_02"]
    assert label.end_ns - label.start_ns == pytest.approx(60 * MS, abs=MS)
    pair = wire.take((wire.socket == 0) & (wire.pdu <= 1))
    together = np.flatnonzero(np.diff(pair.datagram) == 0)
    swapped = pair.pdu[together] > pair.pdu[together + 1]
    assert int(swapped.sum()) == 4
    assert len(wire) == len(CLEAN_WIRE)
    assert len(sends) == len(CLEAN)


def test_payload_freeze() -> None:
    """Data stand still while times and counters go on."""
    sends, _, _, context = outcome(must_draw("payload_freeze", target=MOTOR, size=2.0), [AT_NS + SECOND])
    assert isinstance(context, Context)
    assert (context.kind, context.name, context.pdus) == ("control", "payload_freeze", ["Motor_03"])
    assert changes(CLEAN, sends) == []
    assert sends.counter.tolist() == CLEAN.counter.tolist()
    frozen = sends.data_ns[(sends.pdu == MOTOR) & (sends.data_ns != sends.time_ns)]
    assert len(frozen) == 19
    assert set(frozen.tolist()) == {context.start_ns}


def test_counter_freeze() -> None:
    """The counter stands still while times and data go on."""
    sends = sent_with(must_draw("counter_freeze", target=MOTOR, size=2.0), [AT_NS + SECOND])
    assert changes(CLEAN, sends) == []
    assert (sends.data_ns == sends.time_ns).all()
    assert int((np.diff(sends.counter[sends.pdu == MOTOR]) == 0).sum()) == 19


def test_mode_change() -> None:
    """An ordinary change of a mode is marked, and changes nothing."""
    fault = must_draw("mode_change", size=1.0)
    sends, _, _, context = outcome(fault, [])
    assert isinstance(context, Context)
    assert not fault.edits
    assert changes(CLEAN, sends) == []
    assert context.start_ns == DAY.mode_changes(0, AT_NS, END_NS)[0][0]
    assert context.end_ns - context.start_ns == SECOND
    assert context.pdus == ["HCA_04"]


def test_capture_loss() -> None:
    """So many frames in a row are lost, and the truth ends with the next one."""
    fault = must_draw("capture_loss", size=30)
    _, losses = capture_with(fault, [AT_NS + 20 * MS, AT_NS + 50 * MS], CLEAN_WIRE)
    times = np.unique(CLEAN_WIRE.time_ns)
    lost = np.flatnonzero(losses)
    assert lost.tolist() == list(range(lost[0], lost[0] + 30))
    context = fault.truth(0)
    assert isinstance(context, Context)
    assert (context.start_ns, context.end_ns) == (times[lost[0]], times[lost[-1] + 1])
    assert times[lost[0] - 1] < AT_NS <= context.start_ns


@pytest.mark.parametrize("size", [-40.0, 40.0])
def test_logger_clock_step(size: float) -> None:
    """All timestamps of a while are shifted by one time; the truth covers them, shifted and not."""
    fault = must_draw("logger_clock_step", size=size)
    stamps, _ = capture_with(fault, [AT_NS + SECOND], CLEAN_WIRE)
    times = np.unique(CLEAN_WIRE.time_ns)
    shifted = np.array(stamps) - times
    assert set(shifted.tolist()) == {0, round(size * MS)}
    rows = np.flatnonzero(shifted)
    context = fault.truth(0)
    assert isinstance(context, Context)
    assert context.start_ns == min(times[rows[0]], stamps[rows[0]])
    assert context.end_ns == max(times[rows[-1]], stamps[rows[-1]])
    assert len(rows) == rows[-1] - rows[0] + 1


def test_event_pdus_are_left_alone() -> None:
    """No fault of a cyclic PDU changes the requests, replies and events around it."""
    sends = sent_with(must_draw("burst", target=ESC, size=0.3), [])
    assert {pdu for pdu, _, _ in changes(CLEAN, sends)} == {ESC}
