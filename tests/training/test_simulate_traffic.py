"""The simulated vehicle and its traffic have the statistics that they were drawn with."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.errors import ConfigError
from training.simulate import PRESETS, START_NS, Batch, Vehicle, draw_vehicle, simulate

# PDU/s of a preset, from the project's estimate for vehicles of that size.
EXPECTED_RATES = {"bench": 560, "hcp": 2_750, "domain": 5_300, "vehicle": 10_800}


def arrivals(batches: Iterable[Batch]) -> dict[int, list[int]]:
    """By PDU: when it was sent, nanoseconds from the start of the trace, in order of sending."""
    times: dict[int, list[int]] = defaultdict(list)
    for batch in batches:
        time_ns = np.repeat(batch.time_ns, np.diff(batch.first)) - START_NS
        for pdu, time in zip(batch.pdu.tolist(), time_ns.tolist(), strict=True):
            times[pdu].append(time)
    return times


def nominal_ns(vehicle: Vehicle, pdu: int, count: int) -> np.ndarray:
    """The first `count` due times of a cyclic PDU on its sender's clock."""
    model = vehicle.pdus[pdu]
    ecu = vehicle.ecus[model.ecu]
    assert model.cycle_ns is not None
    elapsed_ns = model.phase * ecu.raster_ns + np.arange(count) * model.cycle_ns
    return ecu.anchor_ns + elapsed_ns * (1 + ecu.drift_ppb / 1e9)


def purely_cyclic(vehicle: Vehicle) -> list[int]:
    """Indices of the PDUs that are sent in their cycle and at no other time."""
    return [i for i, pdu in enumerate(vehicle.pdus) if pdu.send_type == "cyclic"]


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(sorted(PRESETS)), st.integers(0, 2**40))
def test_vehicle_is_consistent(preset: str, seed: int) -> None:
    """Every vehicle has unique ids, names and nodes, and every PDU fits its sender's raster."""
    vehicle = draw_vehicle(preset, seed)
    assert (len(vehicle.pdus), len(vehicle.ecus)) == (PRESETS[preset].pdus, PRESETS[preset].ecus)
    assert len({pdu.pdu_id for pdu in vehicle.pdus}) == len(vehicle.pdus)
    assert len({pdu.name for pdu in vehicle.pdus}) == len(vehicle.pdus)
    assert len({ecu.node for ecu in vehicle.ecus}) == len(vehicle.ecus)
    for ecu in range(len(vehicle.ecus)):
        cycles_ns = [vehicle.pdus[pdu].cycle_ns or 2**63 for pdu in vehicle.pdus_of(ecu)]
        assert min(cycles_ns) <= 100_000_000
    for pdu in vehicle.pdus:
        raster_ns = vehicle.ecus[pdu.ecu].raster_ns
        assert (pdu.cycle_ns is None) == (pdu.send_type == "event")
        if pdu.cycle_ns is not None:
            assert pdu.cycle_ns % raster_ns == 0
            assert pdu.phase < pdu.cycle_ns // raster_ns
        if pdu.send_type != "cyclic":
            assert 10_000_000 <= pdu.repetition_activations * raster_ns <= 50_000_000
        assert 8 <= pdu.length <= 64
        assert len(pdu.constant) == pdu.length
        assert len({place for place, *_ in pdu.signals} - {0, 1, 2}) == len(pdu.signals)


def test_same_seed_same_vehicle() -> None:
    """The arguments decide the vehicle; another seed gives another one."""
    assert draw_vehicle("domain", 3) == draw_vehicle("domain", 3)
    assert draw_vehicle("domain", 3) != draw_vehicle("domain", 4)


def test_cycle_mix() -> None:
    """A quarter of the PDUs is due every 20 ms or faster, as in recorded vehicles."""
    cycles_ns = [pdu.cycle_ns or 2**63 for pdu in draw_vehicle("vehicle").pdus]
    assert np.mean(np.array(cycles_ns) <= 20_000_000) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_rate(preset: str) -> None:
    """A preset sends about as many PDUs a second as a vehicle of its size."""
    seconds = 10
    count = sum(len(batch.pdu) for batch in simulate(draw_vehicle(preset), seconds, 1))
    assert count / seconds == pytest.approx(EXPECTED_RATES[preset], rel=0.15)


def test_traffic_seed_keeps_the_vehicle() -> None:
    """Another traffic seed moves the messages by jitter only: cyclic PDUs come in the same numbers."""
    vehicle = draw_vehicle("bench")
    first, second = (arrivals(simulate(vehicle, 10, seed)) for seed in (1, 2))
    for pdu in purely_cyclic(vehicle):
        assert first[pdu] != second[pdu]
        assert len(first[pdu]) == len(second[pdu])
        assert np.abs(np.array(first[pdu]) - second[pdu]).max() < 15_000_000
    events = [i for i, pdu in enumerate(vehicle.pdus) if pdu.send_type == "event"]
    assert any(len(first[pdu]) != len(second[pdu]) for pdu in events)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**40), st.sampled_from([0.5, 2, 3.25]))
def test_longer_trace_begins_with_the_shorter(seed: int, seconds: float) -> None:
    """The length of a trace decides where it ends, and nothing else; no message comes after the end."""
    vehicle = draw_vehicle("bench")
    short, long = (arrivals(simulate(vehicle, length, seed)) for length in (seconds, 5))
    assert short == {p: kept for p, t in long.items() if (kept := [x for x in t if x < seconds * 1e9])}


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(sorted(PRESETS)), st.integers(0, 2**40))
def test_batches_are_ordered(preset: str, seed: int) -> None:
    """Datagrams come in order of time and each batch keeps to its second."""
    lower_ns = START_NS
    for batch in simulate(draw_vehicle(preset, seed), 3, seed, "none"):
        assert (np.diff(batch.time_ns) >= 0).all()
        assert lower_ns <= batch.time_ns[0] <= batch.time_ns[-1] < batch.until_ns
        assert (np.diff(batch.first) > 0).all()
        assert batch.first[-1] == len(batch.pdu) == len(batch.payload)
        lower_ns = batch.until_ns


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**40))
def test_drift(seed: int) -> None:
    """The cycles are the nominal ones, stretched by the drift of the sender's clock to 3 ppm."""
    vehicle = draw_vehicle("domain", seed)
    times = arrivals(simulate(vehicle, 30, seed))
    for ecu, model in enumerate(vehicle.ecus):
        fastest = min(
            (pdu for pdu in purely_cyclic(vehicle) if vehicle.pdus[pdu].ecu == ecu),
            key=lambda pdu: (vehicle.pdus[pdu].forwarded, vehicle.pdus[pdu].cycle_ns),
        )
        cycle_ns = vehicle.pdus[fastest].cycle_ns
        deltas_ns = np.diff(times[fastest])
        fitted_ns = np.polyfit(np.arange(len(times[fastest])), times[fastest], 1)[0]
        assert cycle_ns is not None
        assert (fitted_ns / cycle_ns - 1) * 1e9 == pytest.approx(model.drift_ppb, abs=3_000)
        assert np.median(deltas_ns) == pytest.approx(cycle_ns, rel=0.02)


def test_jitter() -> None:
    """A task starts late by a half-normal jitter, one activation in a thousand by up to 0.3 cycles."""
    # The first PDU of a task that does not collect shows when the task started, if no gateway is in between.
    vehicle, pdu, cycle_ns = next(
        (vehicle, first, model.cycle_ns)
        for vehicle in (draw_vehicle("bench", seed) for seed in range(100))
        for first in (vehicle.pdus_of(0)[0], vehicle.pdus_of(1)[0])
        if (model := vehicle.pdus[first]).send_type == "cyclic"
        and not (model.forwarded or vehicle.ecus[model.ecu].collects)
        and model.cycle_ns == 10_000_000
    )
    ecu = vehicle.ecus[vehicle.pdus[pdu].ecu]
    sent = np.array(arrivals(simulate(vehicle, 200, 1))[pdu])
    late_ns = sent - nominal_ns(vehicle, pdu, len(sent))
    assert late_ns.min() >= ecu.gap_ns
    # Mean of the half-normal distribution, after the gap of 1 to 1.5 times `gap_ns`.
    expected_ns = 1.25 * ecu.gap_ns + ecu.jitter_sigma_ns * np.sqrt(2 / np.pi)
    assert np.median(late_ns) == pytest.approx(1.25 * ecu.gap_ns + 0.6745 * ecu.jitter_sigma_ns, rel=0.05)
    assert np.mean(late_ns[late_ns < 8 * ecu.jitter_sigma_ns]) == pytest.approx(expected_ns, rel=0.05)
    tail = late_ns[late_ns > 8 * ecu.jitter_sigma_ns]
    assert 0.0003 < len(tail) / len(sent) < 0.002
    assert tail.max() < 0.3 * cycle_ns + 8 * ecu.jitter_sigma_ns


def test_late_activation_delays_all_its_pdus() -> None:
    """Where one PDU is late by the task, every other PDU of that activation is at least as late."""
    vehicle = draw_vehicle("hcp", 2)
    ecu = vehicle.ecus[0]
    times = arrivals(simulate(vehicle, 60, 5))
    lateness: dict[int, list[float]] = defaultdict(list)
    for pdu in purely_cyclic(vehicle):
        model = vehicle.pdus[pdu]
        assert model.cycle_ns is not None
        late_ns = times[pdu] - nominal_ns(vehicle, pdu, len(times[pdu]))
        for number, late in enumerate(late_ns.tolist()):
            lateness[model.phase + number * model.cycle_ns // ecu.raster_ns].append(late)
    # A late start shows in the earliest PDU; load, queue and gateway delay only the others.
    starts = np.array([min(late) for late in lateness.values() if len(late) > 5])
    assert 5 <= np.sum(starts > 1_000_000 + ecu.gap_ns) <= 60


def test_datagrams() -> None:
    """ECUs that collect share datagrams up to 1400 bytes, the others send one PDU a datagram."""
    vehicle = draw_vehicle("hcp")
    lengths = np.array([pdu.length for pdu in vehicle.pdus])
    sizes = [
        np.add.reduceat(8 + lengths[batch.pdu], batch.first[:-1]).max() for batch in simulate(vehicle, 10, 1)
    ]
    assert 200 < max(sizes) <= 1400

    vehicle = draw_vehicle("domain")
    collects = np.array([ecu.collects for ecu in vehicle.ecus])
    for batch in simulate(vehicle, 3, 1):
        pdus = np.diff(batch.first)
        assert pdus[~collects[batch.sender]].max() == 1
        assert pdus[collects[batch.sender]].max() > 3
        owner = np.array([pdu.ecu for pdu in vehicle.pdus])[batch.pdu]
        assert (owner == np.repeat(batch.sender, pdus)).all()


def test_full_datagrams_are_split() -> None:
    """An activation with more than 1400 bytes leaves as several datagrams, in order and none too large."""
    from training.simulate.schedule import _fill_datagrams

    activation = np.repeat([3, 4, 9], [100, 2, 45])
    size = np.where(np.arange(147) % 3, 16, 72)
    last = _fill_datagrams(activation, size)
    assert (np.diff(last) >= 0).all()
    starts = np.flatnonzero(np.diff(last, prepend=-1))
    totals = np.add.reduceat(size, starts)
    assert totals.max() <= 1400
    assert len(starts) == 3 + 1 + 2
    for start, stop in zip(starts, np.append(starts[1:], 147), strict=True):
        assert len(set(activation[start:stop])) == 1


def test_forwarded_pdus() -> None:
    """PDUs from another bus come alone and up to 2 ms later than the task."""
    vehicle = draw_vehicle("hcp")
    times = arrivals(simulate(vehicle, 20, 1))
    forwarded = [i for i in purely_cyclic(vehicle) if vehicle.pdus[i].forwarded]
    assert forwarded
    late_ns = np.concatenate([times[i] - nominal_ns(vehicle, i, len(times[i])) for i in forwarded])
    assert np.percentile(late_ns, [5, 50, 95]) == pytest.approx([1e5, 1e6, 1.9e6], abs=2e5)
    for batch in simulate(vehicle, 2, 1):
        pdus = np.repeat(np.diff(batch.first), np.diff(batch.first))
        assert pdus[np.isin(batch.pdu, forwarded)].max() == 1


def payloads(vehicle: Vehicle, seconds: int, seed: int) -> dict[int, np.ndarray]:
    """By PDU: its payloads in order, shape (messages, length)."""
    batches = list(simulate(vehicle, seconds, seed))
    pdu = np.concatenate([batch.pdu for batch in batches])
    rows = np.concatenate([batch.payload for batch in batches])
    return {i: rows[pdu == i][:, : model.length] for i, model in enumerate(vehicle.pdus)}


def test_alive_counter_and_signals() -> None:
    """The alive counter goes up by one a message; signals move by at most one step between close ones."""
    vehicle = draw_vehicle("bench", 1)
    for pdu, rows in payloads(vehicle, 10, 1).items():
        counter = rows[:, 1].astype(int) & 0x0F
        assert (np.diff(counter) % 16 == 1).all()
        if (vehicle.pdus[pdu].cycle_ns or 2**63) <= 40_000_000:
            signals = rows[:, [place for place, *_ in vehicle.pdus[pdu].signals]].astype(int)
            assert np.abs(np.diff(signals, axis=0)).max() == 1


def test_on_change_sends_are_repeated() -> None:
    """A new value of a mixed PDU goes out at once and three times more, 10 or 20 ms apart."""
    vehicle = draw_vehicle("hcp")
    times = arrivals(simulate(vehicle, 30, 4))
    values = payloads(vehicle, 30, 4)
    changes = 0
    for pdu, model in enumerate(vehicle.pdus):
        if model.send_type != "mixed":
            continue
        sent_ns = np.array(times[pdu])
        repetition_ns = model.repetition_activations * vehicle.ecus[0].raster_ns
        for row in 1 + np.flatnonzero(np.diff(values[pdu][:, 2])):
            if sent_ns[row] + 4 * repetition_ns > 30e9:
                continue
            changes += 1
            for repetition in (1, 2, 3):
                due_ns = sent_ns[row] + repetition * repetition_ns
                assert np.abs(sent_ns - due_ns).min() < 4_000_000
    assert changes > 20


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: draw_vehicle("lorry"), "lorry"),
        (lambda: draw_vehicle("bench", -1), "--vehicle-seed -1"),
        (lambda: simulate(draw_vehicle(), 0, 1), "--seconds 0"),
        (lambda: simulate(draw_vehicle(), -3, 1), "--seconds -3"),
        (lambda: simulate(draw_vehicle(), float("nan"), 1), "--seconds nan"),
        (lambda: simulate(draw_vehicle(), float("inf"), 1), "--seconds inf"),
        (lambda: simulate(draw_vehicle(), 1, -1), "--seed -1"),
        (lambda: simulate(draw_vehicle(), 1, 1, "some"), "--faults some"),
    ],
)
def test_bad_arguments(call, word: str) -> None:  # type: ignore[no-untyped-def]
    """A wrong argument is refused at once in a sentence that names it."""
    with pytest.raises(ConfigError, match=word):
        call()
