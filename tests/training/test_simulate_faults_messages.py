"""Single messages and cycles of a PDU: what each fault does to them."""

import numpy as np
import pytest

from tests.training.test_simulate_faults import (
    AT_NS,
    CLEAN,
    DAY,
    ESC,
    FORWARDED,
    MOTOR,
    MS,
    NM,
    SECOND,
    STEER,
    collected,
    must_draw,
    sent_with,
    times_of,
    traffic,
)
from training.labels import Label
from training.simulate.faults.planned import PlannedFault
from training.simulate.tables import Sends


def happened(fault: PlannedFault) -> tuple[Sends, Label]:
    """What is sent with a fault, and its label."""
    sends = sent_with(fault, [])
    label = fault.truth(1000)
    assert isinstance(label, Label)
    assert (label.kind, label.size, label.unit) == (fault.kind, fault.size, fault.unit)
    assert label.severity == fault.severity
    return sends, Label(label.start_ns - 1000, label.end_ns - 1000, label.kind, label.pdus)


def intervals(sends: Sends, pdu: int) -> list[float]:
    """Intervals between a PDU's messages from a second before the fault, in ms."""
    own = sends.time_ns[(sends.pdu == pdu) & (sends.time_ns > AT_NS - SECOND)]
    return [gap / MS for gap in np.diff(own).tolist()]


@pytest.mark.parametrize("cycles", [0.25, 1.5, 3.2])
def test_delay(cycles: float) -> None:
    """One message is late by a number of cycles, from its due time to its coming, the others are not."""
    sends, label = happened(must_draw("delay", target=STEER, size=cycles))
    assert label.pdus == ["Lenkung_10"]
    assert label.end_ns - label.start_ns == round(cycles * 10 * MS)
    clean, faulty = (set(table.time_ns[table.pdu == STEER].tolist()) for table in (CLEAN, sends))
    assert clean - faulty == {label.start_ns}
    assert faulty - clean == {label.end_ns}


def test_missing() -> None:
    """Three messages are not sent, a gap in the counter remains, and the label ends with the next one."""
    sends, label = happened(must_draw("missing", target=ESC, size=3))
    own = sends.take(sends.pdu == ESC)
    back = int(np.searchsorted(own.time_ns, label.end_ns))
    assert own.time_ns[back] == label.end_ns
    assert own.counter[back] - own.counter[back - 1] == 4
    assert own.time_ns[back] - own.time_ns[back - 1] == pytest.approx(80 * MS, abs=MS)
    assert label.start_ns == pytest.approx(label.end_ns - 60 * MS, abs=MS)


def test_nm_loss() -> None:
    """NM messages are missing."""
    sends, label = happened(must_draw("nm_loss", size=2))
    assert label.pdus == ["NM_07"]
    assert max(intervals(sends, NM)) == pytest.approx(600, abs=1)


def test_early() -> None:
    """A message comes 0.4 cycles before it is due and the next one in time, with their usual counters."""
    sends, label = happened(must_draw("early", target=MOTOR, size=0.4))
    assert label.end_ns - label.start_ns == pytest.approx(40 * MS, abs=MS)
    found = intervals(sends, MOTOR)
    at = int(np.argmin(found))
    assert found[at : at + 2] == pytest.approx([60, 140], abs=1)
    assert set(np.diff(sends.counter[sends.pdu == MOTOR]).tolist()) == {1}


def test_early_message_that_is_collected() -> None:
    """A label ends no earlier than the datagram leaves, though the message comes after its due time there."""
    fault = must_draw("early", target=ESC, size=0.1)
    sends = sent_with(fault, [])
    early = sends.take(sends.sent & ~np.isin(sends.time_ns, CLEAN.time_ns))
    wire = collected(fault, early)
    wire.time_ns += 5 * MS
    fault.watch(wire)
    label = fault.truth(0)
    assert isinstance(label, Label)
    assert label.start_ns == label.end_ns == wire.time_ns[0]


def test_double() -> None:
    """Messages come twice, with one counter, 0.3 to 3 ms apart."""
    sends, _ = happened(must_draw("double", target=ESC, size=3))
    own = sends.take(sends.pdu == ESC)
    again = np.flatnonzero(np.diff(own.counter) == 0)
    assert len(again) == 3
    gaps = np.diff(own.time_ns)[again]
    assert gaps.min() >= 0.3 * MS
    assert gaps.max() <= 3 * MS


def test_burst() -> None:
    """Nothing comes for 0.3 s, then all of it 0.2 to 1 ms apart and in order."""
    sends, label = happened(must_draw("burst", target=FORWARDED, size=0.3))
    found = intervals(sends, FORWARDED)
    at = int(np.argmax(found))
    assert found[at] == pytest.approx(320, abs=1)
    flushed = found[at + 1 : at + 15]
    assert len([gap for gap in flushed if 0.2 <= gap <= 1]) == 14
    assert np.diff(sends.counter[sends.pdu == FORWARDED]).tolist() == [1] * (
        len(CLEAN.pdu[CLEAN.pdu == FORWARDED]) - 1
    )
    assert label.end_ns - label.start_ns == pytest.approx(310 * MS, abs=10 * MS)


def test_injection() -> None:
    """Foreign messages with old counters come between the PDU's own ones, and faster."""
    sends, label = happened(must_draw("injection", target=STEER, size=20))
    own = sends.take(sends.pdu == STEER)
    extra = len(own) - int((CLEAN.pdu == STEER).sum())
    assert extra == 20
    foreign = own.take((own.time_ns >= label.start_ns) & (own.time_ns < label.end_ns) & ~own.due)
    assert len(foreign) == 20
    assert set(np.diff(foreign.counter).tolist()) == {1}
    newest = own.counter[own.due & (own.time_ns < label.start_ns)].max()
    assert foreign.counter[0] < newest - 1
    assert (foreign.data_ns < foreign.time_ns).all()
    assert len(set(np.diff(foreign.time_ns).tolist())) == 1
    assert np.diff(foreign.time_ns)[0] < 10 * MS


@pytest.mark.parametrize("factor", [2.0, 0.5, 1.2, 0.8, 1.5])
def test_wrong_cycle(factor: float) -> None:
    """All intervals of the label's time are those of the wrong cycle, all others right, with no glitch."""
    sends, _ = happened(must_draw("wrong_cycle", target=MOTOR, size=factor))
    found = intervals(sends, MOTOR)
    wrong = [at for at, gap in enumerate(found) if abs(gap - 100) > 5]
    assert len(wrong) >= 2
    assert wrong == list(range(wrong[0], wrong[-1] + 1))
    assert [found[at] for at in wrong] == pytest.approx([100 * factor] * len(wrong), abs=1)


def test_wrong_cycle_label() -> None:
    """A cycle that is too long is wrong from when the first message is missed."""
    sends, label = happened(must_draw("wrong_cycle", target=MOTOR, size=2.0))
    own = sends.time_ns[sends.pdu == MOTOR]
    before = own[own < label.start_ns][-1]
    assert label.start_ns - before == pytest.approx(100 * MS, abs=MS)
    assert label.end_ns in own.tolist()


@pytest.mark.parametrize("percent", [8.0, -8.0, 0.6])
def test_drift(percent: float) -> None:
    """Intervals grow or shrink up to the given part of the cycle, and counters never jump."""
    fault = must_draw("drift", target=ESC, size=percent, longest_s=12)
    sends, label = happened(fault)
    own = sends.take(sends.pdu == ESC)
    rows = (own.time_ns >= label.start_ns) & (own.time_ns < label.end_ns)
    found = np.diff(own.time_ns[rows]) / (20 * MS) - 1
    assert found[:5] == pytest.approx(0, abs=0.005)
    assert found[-5:] == pytest.approx(percent / 100, abs=0.005)
    slope = np.polyfit(np.arange(len(found)), found, 1)[0]
    assert slope * percent > 0
    assert set(np.diff(own.counter).tolist()) == {1}
    shift = int(CLEAN.counter[CLEAN.pdu == ESC][-1] - own.counter[-1])
    assert fault.counter_shift == {ESC: shift}
    assert shift * percent >= 0
    assert np.diff(own.time_ns).min() > 9 * MS


def test_phase() -> None:
    """A PDU is 0.4 cycles late at most, no interval is far from the cycle, and it comes back."""
    sends, label = happened(must_draw("phase", target=ESC, size=0.4))
    late = sends.time_ns[sends.pdu == ESC] - CLEAN.time_ns[CLEAN.pdu == ESC]
    assert late.max() == pytest.approx(8 * MS, rel=0.02)
    assert late.min() == late[-1] == 0
    found = intervals(sends, ESC)
    assert max(abs(gap - 20) for gap in found) < 0.05 * 20
    assert label.end_ns - label.start_ns > 3 * SECOND


@pytest.mark.parametrize("size", [0.25, -0.25])
def test_desync_at_once(size: float) -> None:
    """A member of a group is sent an activation before or after the others, each cycle once."""
    fault = next(f for seed in range(20) if (f := must_draw("desync", seed, target=ESC, size=size)).edits)
    sends, label = happened(fault)
    shifted = traffic(DAY.edited(fault.edits))
    assert len(shifted) == len(CLEAN)
    late = sends.time_ns[sends.pdu == ESC] - CLEAN.time_ns[CLEAN.pdu == ESC]
    assert {round(gap / MS) for gap in late.tolist()} == {0, round(20 * size)}
    inside = times_of(sends, ESC, label)
    assert len(inside) >= 2


def test_gradual_desync() -> None:
    """A member of a group may also leave it little by little."""
    fault = must_draw("desync", target=ESC, size=0.06)
    sends, _ = happened(fault)
    assert not fault.edits
    late = sends.time_ns[sends.pdu == ESC] - CLEAN.time_ns[CLEAN.pdu == ESC]
    assert 0.05 * 20 * MS < late.max() < 0.07 * 20 * MS
