"""Faults of ECUs and of the network: what each does to sends and datagrams."""

import numpy as np
import pytest

from tests.training.test_simulate_faults import (
    ANSWER,
    AT_NS,
    CLEAN,
    ESC,
    FORWARDED,
    FORWARDED_SLOW,
    LICHT,
    MOTOR,
    MS,
    NM,
    SECOND,
    VEHICLE,
    collected,
    copied,
    must_draw,
    outcome,
    sent_with,
)
from training.labels import Label
from training.simulate.faults.ecus import EcuStop
from training.simulate.tables import DATAGRAM_STEP, Wire

HCP1, GATEWAY, HCP2 = range(3)
ECU_OF = np.array([pdu.ecu for pdu in VEHICLE.pdus])


@pytest.mark.parametrize("nm_goes_on", [False, True])
def test_ecu_stop(nm_goes_on: bool) -> None:
    """An ECU is silent, NM messages as drawn, and what it did not ask is not answered."""
    fault = EcuStop(VEHICLE, AT_NS, HCP1, 1.0, nm_goes_on)
    sends, _, _, label = outcome(fault, [AT_NS + 500 * MS])
    assert isinstance(label, Label)
    silent = (sends.time_ns >= AT_NS) & (sends.time_ns < AT_NS + SECOND)
    own = set(sends.pdu[silent & (ECU_OF[sends.pdu] == HCP1)].tolist())
    assert own == ({NM} if nm_goes_on else set())
    assert ANSWER not in sends.pdu[silent & (sends.time_ns > AT_NS + 4 * MS)]
    assert ("NM_07" in label.pdus) != nm_goes_on
    assert label.start_ns < AT_NS + 25 * MS
    back = {sends.time_ns[(sends.pdu == pdu) & (sends.time_ns >= AT_NS + SECOND)][0] for pdu in range(5)}
    assert label.end_ns >= max(sorted(back)[:3])


def test_stopped_gateway_copies_nothing() -> None:
    """Copies of other ECUs' PDUs by a gateway stop with it, the PDUs themselves do not."""
    _, wire, _, label = outcome(EcuStop(VEHICLE, AT_NS, GATEWAY, 1.0, False), [])
    during = wire.take((wire.time_ns >= AT_NS + 5 * MS) & (wire.time_ns < AT_NS + SECOND))
    assert 2 not in during.socket
    assert during.pdu[during.pdu == LICHT].size == 20
    assert isinstance(label, Label)
    assert "Licht_05" in label.pdus


def test_gateway_restart() -> None:
    """Forwarded PDUs and copies are gone, come back one after the other, and count from 0."""
    fault = must_draw("gateway_restart", size=2.0)
    sends, wire, _, label = outcome(fault, [AT_NS + SECOND, AT_NS + 2200 * MS])
    gone = (wire.time_ns >= AT_NS + 5 * MS) & (wire.time_ns < AT_NS + 2 * SECOND)
    assert {FORWARDED, FORWARDED_SLOW} & set(wire.pdu[gone].tolist()) == set()
    assert 2 not in wire.socket[gone]
    assert NM in wire.pdu[gone]
    for pdu in (FORWARDED, FORWARDED_SLOW):
        counter = sends.counter[(sends.pdu == pdu) & (sends.time_ns > AT_NS)]
        assert counter.tolist()[:20] == list(range(20))
        clean = CLEAN.counter[CLEAN.pdu == pdu][-1]
        assert clean - counter[-1] == fault.counter_shift[pdu]
    later = wire.take((wire.socket == 2) & (wire.time_ns > AT_NS + SECOND))
    back = [int(later.time_ns[later.pdu == pdu][0]) for pdu in (FORWARDED, FORWARDED_SLOW, LICHT)]
    assert isinstance(label, Label)
    assert label.pdus == ["Licht_05", "Fern_08", "Fern_09"]
    assert label.end_ns == pytest.approx(max(back), abs=2 * MS)
    assert max(back) < AT_NS + 3200 * MS


def test_overload() -> None:
    """Everything from an ECU is up to 3 ms late for a while, each PDU still in order."""
    sends = sent_with(must_draw("overload", target=HCP1, size=3.0), [])
    late = []
    for pdu in np.flatnonzero(ECU_OF == HCP1).tolist():
        own = sends.time_ns[sends.pdu == pdu]
        late.append(own - CLEAN.time_ns[CLEAN.pdu == pdu])
    all_late = np.concatenate(late)
    assert all_late.min() == 0
    assert 2.5 * MS < all_late.max() <= 3 * MS
    during = late[ESC][late[ESC] > 0]
    assert 40 < len(during) < 510
    assert len(set(during.tolist())) > 0.9 * len(during)


@pytest.mark.parametrize("size", [30.0, -30.0, 150.0, -150.0])
def test_clock_step(size: float) -> None:
    """An ECU's cyclic PDUs are all shifted by the same time, modulo their cycles, and then right again."""
    fault = must_draw("clock_step", target=HCP1, size=size)
    sends = sent_with(fault, [AT_NS + 1500 * MS])
    label = fault.truth(0)
    assert isinstance(label, Label)
    for pdu, cycle_ms in ((ESC, 20), (MOTOR, 100), (NM, 200)):
        new, old = (table.time_ns[table.pdu == pdu] for table in (sends, CLEAN))
        moved = np.array(sorted(set(new.tolist()) - set(old.tolist())))
        assert len(moved) > 2
        nearest = (moved[:, None] - old[None, :]) // 1000
        phases = {
            round((gap % (cycle_ms * 1000)) / 1000) % cycle_ms
            for gap in nearest.min(axis=1, where=nearest >= 0, initial=1 << 40).tolist()
        }
        assert phases <= {round(size) % cycle_ms, (round(size) + 1) % cycle_ms, (round(size) - 1) % cycle_ms}
        intervals = np.diff(new[(new > label.start_ns - SECOND) & (new < label.end_ns + SECOND)]) / MS
        assert sum(abs(gap - cycle_ms) > 0.2 for gap in intervals) <= 2
        assert abs(size) + 2 * cycle_ms > max(intervals)
        assert set(new[new > label.end_ns].tolist()) == set(old[old > label.end_ns].tolist())
        gone_on = sends.counter[sends.pdu == pdu][np.argsort(new)]
        assert set(np.diff(gone_on[np.sort(new) < fault.until_ns]).tolist()) == {1}
    other = ECU_OF[sends.pdu] != HCP1
    assert len(sends.take(other)) == (ECU_OF[CLEAN.pdu] != HCP1).sum()


def test_duplicate() -> None:
    """Whole datagrams come again 10 to 300 us later, with a number of their own."""
    _, wire, _, label = outcome(must_draw("duplicate", 3, target=HCP1, size=4), [])
    again = wire.take(wire.datagram % DATAGRAM_STEP != 0)
    numbers = np.unique(again.datagram)
    assert len(numbers) == 4
    for number in numbers.tolist():
        first, second = (wire.take(wire.datagram == which) for which in (number - 1, number))
        assert first.pdu.tolist() == second.pdu.tolist()
        assert first.counter.tolist() == second.counter.tolist()
        assert 10_000 <= second.time_ns[0] - first.time_ns[0] <= 300_000
    assert isinstance(label, Label)
    assert label.end_ns == again.time_ns.max()


def test_reorder() -> None:
    """A datagram that was close behind another leaves after the one behind it; the label counts those."""
    count = 400
    number = np.arange(count)
    # Three datagrams 100 us apart every 20 ms.
    times_ns = AT_NS + number // 3 * 20 * MS + number % 3 * 100_000
    zeros = np.zeros(count, np.int64)
    wire = Wire(number % 3, zeros, number * DATAGRAM_STEP, times_ns, times_ns, number, zeros, times_ns, zeros)
    fault = must_draw("reorder", target=HCP1, size=5)
    fault.until_ns = AT_NS + 60 * SECOND
    result = fault.on_wire(wire.take(number), AT_NS, AT_NS + 60 * SECOND)
    order = result.counter[np.lexsort((result.datagram, result.time_ns))]
    assert int((np.diff(order) < 0).sum()) == 5
    assert (result.time_ns - times_ns).max() <= 600_000
    label = fault.truth(0)
    assert isinstance(label, Label)
    assert (label.size, label.pdus) == (5, ["ESP_02"])


def test_reorder_without_others() -> None:
    """Datagrams that nothing overtakes make no label; those that were put off on the way to one are in it."""
    lonely, busy = AT_NS + np.array([0, 100_000]), AT_NS + SECOND + np.arange(9) * 100_000
    for times_ns, reordered in ((lonely, False), (np.concatenate([lonely, busy]), True)):
        number = np.arange(len(times_ns))
        zeros = np.zeros(len(number), np.int64)
        columns = (number * DATAGRAM_STEP, times_ns, times_ns, number, zeros, times_ns, zeros)
        wire = Wire(zeros, zeros, *columns)
        fault = must_draw("reorder", target=HCP1, size=3)
        fault.until_ns = AT_NS + 60 * SECOND
        result = fault.on_wire(wire.take(number), AT_NS, AT_NS + 60 * SECOND)
        assert result.time_ns[1] > times_ns[1]
        label = fault.truth(0)
        assert isinstance(label, Label) == reordered
        if isinstance(label, Label):
            assert label.start_ns == times_ns[1]


def test_wrong_port() -> None:
    """Messages go out with one port changed, and nothing else of the socket."""
    sources, destinations = set(), set()
    for seed in range(8):
        fault = must_draw("wrong_port", seed, target=ESC, size=3)
        sends, wire, _, _ = outcome(fault, [])
        (wrong,) = fault.extra_sockets
        right = VEHICLE.sockets[0]
        sources.add(wrong.source_port == right.source_port)
        destinations.add(wrong.destination_port == right.destination_port)
        assert (wrong.source_port == right.source_port) != (wrong.destination_port == right.destination_port)
        assert (wrong.source, wrong.destination, wrong.ecu) == (right.source, right.destination, right.ecu)
        assert int((sends.socket == len(VEHICLE.sockets)).sum()) == 3
        assert int((wire.socket == len(VEHICLE.sockets)).sum()) == 3
        assert len(sends) == len(CLEAN)
    assert sources == destinations == {True, False}


def test_wrong_sender() -> None:
    """Messages come from another ECU's address, to the same destination."""
    fault = must_draw("wrong_sender", target=ESC, size=3)
    (wrong,) = fault.extra_sockets
    assert wrong.source in {"fd53::2", "fd53::3"}
    assert VEHICLE.sockets[wrong.ecu + 1 + (wrong.ecu == 2)].source == wrong.source
    assert wrong.destination_port == VEHICLE.sockets[0].destination_port
    wire = collected(fault, sent_with(fault, []))
    assert set(wire.pdu[wire.socket == len(VEHICLE.sockets)].tolist()) == {ESC}


def test_tables_are_not_shared() -> None:
    """The clean traffic is the same after all of this."""
    assert (np.diff(copied(CLEAN).time_ns) >= 0).all()
    assert CLEAN.sent.all()
