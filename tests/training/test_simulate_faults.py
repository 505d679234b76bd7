"""Every fault label names what is wrong in the trace, and nothing else is wrong."""

from typing import ClassVar

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.training.test_simulate_traffic import arrivals
from training.simulate import START_NS, Label, Vehicle, draw_vehicle, faults, simulate
from training.simulate.faults import Fault, plan_faults
from training.simulate.schedule import Sends

SECOND = 1_000_000_000


def labels_of(vehicle: Vehicle, seconds: float, seed: int, level: str) -> list[Label]:
    """The labels of a trace in the order in which they come."""
    return [label for batch in simulate(vehicle, seconds, seed, level) for label in batch.labels]


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**40), st.sampled_from(["bench", "bench", "hcp", "domain"]))
@example(17891, "domain")  # an event PDU is lost before the first due time passes
def test_labels_are_the_difference_to_the_clean_trace(seed: int, preset: str) -> None:
    """A trace with faults is the clean one of that seed but for exactly what its labels say."""
    vehicle = draw_vehicle(preset, seed % 5)
    clean = arrivals(simulate(vehicle, 40, seed))
    faulty = arrivals(simulate(vehicle, 40, seed, "heavy"))
    index_of = {pdu.name: index for index, pdu in enumerate(vehicle.pdus)}
    lost = {i: set(clean[i]) - set(faulty[i]) for i in range(len(vehicle.pdus))}
    added = {i: set(faulty[i]) - set(clean[i]) for i in range(len(vehicle.pdus))}
    labels = labels_of(vehicle, 40, seed, "heavy")
    assert len(labels) >= 3

    for label in labels:
        start_ns, end_ns = label.start_ns - START_NS, label.end_ns - START_NS
        pdus = [index_of[name] for name in label.pdus]
        within = {i: {t for t in lost[i] if start_ns <= t < end_ns} for i in range(len(vehicle.pdus))}
        if label.kind == "ecu_stop":
            ecus = {vehicle.pdus[i].ecu for i in pdus}
            assert len(ecus) == 1
            own = [i for i in range(len(vehicle.pdus)) if {vehicle.pdus[i].ecu} == ecus]
            silent = sorted(t for i in own for t in within[i])
            assert silent[0] == start_ns
            assert label.severity - 0.2 < (silent[-1] - silent[0]) / SECOND < label.severity
            # The whole ECU is silent from the first to the last message that is lost.
            assert not any(silent[0] <= t <= silent[-1] for i in own for t in faulty[i])
            for i in own:
                if vehicle.pdus[i].send_type == "cyclic":
                    assert (i in pdus) == bool(within[i])
            next_ns = [min(t for t in faulty[i] if t > silent[-1]) for i in pdus]
            assert max(next_ns) == end_ns
            for i in own:
                lost[i] -= within[i]
        else:
            (pdu,) = pdus
            assert vehicle.pdus[pdu].send_type == "cyclic"
            cycle_ns = vehicle.pdus[pdu].cycle_ns
            assert cycle_ns is not None
            assert start_ns in within[pdu]
            if label.kind == "delay":
                assert 0.5 <= label.severity <= 3
                assert end_ns - start_ns == round(label.severity * cycle_ns)
                assert within[pdu] == {start_ns}
                assert end_ns in added[pdu]
                added[pdu].remove(end_ns)
            else:
                assert label.kind == "missing"
                assert len(within[pdu]) == label.severity
                assert not any(start_ns <= t < end_ns for t in faulty[pdu])
                assert end_ns in faulty[pdu]
            lost[pdu] -= within[pdu]
    assert not any(lost.values())
    assert not any(added.values())


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**40), st.sampled_from(["light", "heavy"]))
def test_clean_time_around_faults(seed: int, level: str) -> None:
    """The first 5 s, the last second and at least a second between two faults are clean."""
    labels = labels_of(draw_vehicle("bench", seed), 50.5, seed, level)
    ends_ns = [START_NS + 4 * SECOND, *(label.end_ns for label in labels)]
    starts_ns = [*(label.start_ns for label in labels), START_NS + round(50.5 * SECOND)]
    assert all(s - e >= SECOND for e, s in zip(ends_ns, starts_ns, strict=True))
    assert all(label.end_ns > label.start_ns for label in labels)


@pytest.mark.parametrize(("level", "mean_s"), [("light", 20), ("heavy", 4)])
def test_number_of_faults(level: str, mean_s: float) -> None:
    """Faults come about once per mean time of the level, in the shares of their kinds."""
    planned = plan_faults(draw_vehicle("domain"), 8_000, 3, level)
    assert len(planned) == pytest.approx(8_000 / mean_s, rel=0.1)
    kinds = [fault.kind for fault in planned]
    for kind, (share, _) in faults.FAULT_KINDS.items():
        assert kinds.count(kind) / len(kinds) == pytest.approx(share, abs=0.06)


def test_no_faults() -> None:
    """Without faults there are no labels."""
    assert labels_of(draw_vehicle("bench"), 30, 1, "none") == []


def test_alive_counter_tells_missing_from_late() -> None:
    """Missing messages leave a gap of that size in the alive counter."""
    vehicle = draw_vehicle("bench")
    found = 0
    batches = list(simulate(vehicle, 120, 2, "heavy"))
    pdu = np.concatenate([batch.pdu for batch in batches])
    rows = np.concatenate([batch.payload for batch in batches])
    times_ns = np.concatenate([np.repeat(batch.time_ns, np.diff(batch.first)) for batch in batches])
    for label in (label for batch in batches for label in batch.labels if label.kind == "missing"):
        (index,) = (i for i, model in enumerate(vehicle.pdus) if (model.name,) == label.pdus)
        own = pdu == index
        back = int(np.searchsorted(times_ns[own], label.end_ns))
        counter = rows[own][:, 1].astype(int) & 0x0F
        assert (counter[back] - counter[back - 1]) % 16 == label.severity + 1
        found += 1
    assert found > 5


class Echo(Fault):
    """Everything that is sent in 10 ms is sent once more 1 ms later."""

    kind: ClassVar[str] = "echo"

    def __init__(self, at_ns: int) -> None:
        super().__init__(at_ns, at_ns + 100_000_000, 1)
        self.copies = 0

    def apply(self, sends: Sends) -> Sends:
        """Add the copies."""
        rows = (sends.time_ns >= self.at_ns) & (sends.time_ns < self.at_ns + 10_000_000)
        copies = sends.take(rows)
        copies.time_ns += 1_000_000
        copies.datagram = -1 - copies.datagram
        self.copies += len(copies)
        return Sends.join([sends, copies])

    def label(self, start_ns: int) -> Label:
        """The 11 ms in which copies are sent."""
        return Label(start_ns + self.at_ns, start_ns + self.at_ns + 11_000_000, "echo", (), self.copies)


def test_new_kind_of_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind that is added to the table takes part, and may add messages."""
    monkeypatch.setattr(faults, "FAULT_KINDS", {"echo": (1.0, lambda _rng, _vehicle, at_ns: Echo(at_ns))})
    vehicle = draw_vehicle("vehicle")
    clean = sum(len(batch.pdu) for batch in simulate(vehicle, 12, 1))
    batches = list(simulate(vehicle, 12, 1, "heavy"))
    labels = [label for batch in batches for label in batch.labels]
    assert labels
    assert sum(len(batch.pdu) for batch in batches) - clean == sum(label.severity for label in labels) > 0
