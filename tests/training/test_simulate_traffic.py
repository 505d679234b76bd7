"""What a whole simulation sends: rates, order, and what its arguments decide."""

from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.errors import ConfigError
from training.labels import Context, Label
from training.simulate import PRESETS, START_NS, Batch, Simulation, Vehicle, draw_vehicle
from training.simulate.faults.spec import ExplicitFault, FaultSpec

Message = tuple[int, int, bytes]
"""When it was sent, ns from the start of the trace, on which socket, with which payload."""

# PDU/s and datagrams/s of vehicles of these sizes, from the project's estimate.
EXPECTED_RATES = {
    "bench": (560, None),
    "hcp": (2_750, 210),
    "domain": (5_300, 1_200),
    "vehicle": (10_800, 2_400),
    "large": (19_800, 5_000),
}


def messages(vehicle: Vehicle, batches: Iterable[Batch]) -> dict[int, list[Message]]:
    """By PDU: all that was sent of it, in order of sending."""
    found: dict[int, list[Message]] = defaultdict(list)
    for batch in batches:
        size = np.diff(batch.first)
        times_ns = np.repeat(batch.time_ns, size) - START_NS
        sockets = np.repeat(batch.socket, size)
        for pdu, time_ns, socket, payload in zip(
            batch.pdu.tolist(), times_ns.tolist(), sockets.tolist(), batch.payload, strict=True
        ):
            found[pdu].append((time_ns, socket, payload[: vehicle.pdus[pdu].length].tobytes()))
    return found


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_rates(preset: str) -> None:
    """A preset sends as many PDUs and datagrams a second as a vehicle of its size, whichever is drawn."""
    seconds = 8
    expected_pdus, expected_datagrams = EXPECTED_RATES[preset]
    for seed in (0, 1):
        pdus = datagrams = 0
        for batch in Simulation(draw_vehicle(preset, seed), seconds, 1).batches():
            pdus += len(batch.pdu)
            datagrams += len(batch.time_ns)
        assert pdus / seconds == pytest.approx(expected_pdus, rel=0.1)
        if expected_datagrams is not None:
            assert datagrams / seconds == pytest.approx(expected_datagrams, rel=0.2)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(["bench", "hcp", "domain"]), st.integers(0, 2**40), st.sampled_from(["none", "heavy"]))
def test_batches_are_ordered(preset: str, seed: int, faults: str) -> None:
    """Datagrams come in order of time and each batch keeps to its second, faults or not."""
    lower_ns = START_NS
    for batch in Simulation(draw_vehicle(preset, seed), 12, seed, faults).batches():
        assert (np.diff(batch.time_ns) >= 0).all()
        # Where the only ECU stops there is nothing for more than a second.
        assert ((batch.time_ns >= lower_ns) & (batch.time_ns < batch.until_ns)).all()
        assert (np.diff(batch.first) > 0).all()
        assert batch.first[-1] == len(batch.pdu) == len(batch.payload)
        assert len(batch.socket) == len(batch.stamp_ns) == len(batch.lost_before) == len(batch.time_ns)
        lower_ns = batch.until_ns


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**40), st.sampled_from([0.5, 7, 12.25]), st.sampled_from(["bench", "hcp"]))
def test_longer_trace_begins_with_the_shorter(drive: int, seconds: float, preset: str) -> None:
    """The length of a trace decides where it ends, and nothing else, as long as no fault crosses the end."""
    vehicle = draw_vehicle(preset)
    short, long = (
        messages(vehicle, Simulation(vehicle, length, drive).batches()) for length in (seconds, 14)
    )
    end_ns = seconds * 1e9
    assert short == {pdu: kept for pdu, sent in long.items() if (kept := [m for m in sent if m[0] < end_ns])}


def test_drive_keeps_the_vehicle() -> None:
    """Another drive moves the messages by jitter: cyclic PDUs come in the same numbers, events do not."""
    vehicle = draw_vehicle("bench")
    first, second = (messages(vehicle, Simulation(vehicle, 20, drive).batches()) for drive in (1, 2))
    cyclic = [
        index
        for index, pdu in enumerate(vehicle.pdus)
        if pdu.role == "com" and pdu.send_type == "cyclic" and not pdu.forwarded
    ]
    for pdu in cyclic:
        assert [m[0] for m in first[pdu]] != [m[0] for m in second[pdu]]
        assert abs(len(first[pdu]) - len(second[pdu])) <= len(vehicle.pdus[pdu].sockets)
    changing = [index for index, pdu in enumerate(vehicle.pdus) if pdu.send_type == "mixed"]
    assert any(len(first[pdu]) != len(second[pdu]) for pdu in changing)


@pytest.mark.parametrize(("preset", "drive"), [("bench", 3), ("domain", 4)])
def test_faults_change_only_what_their_labels_say(preset: str, drive: int) -> None:
    """Away from the labels, a faulty trace holds the messages of the clean one."""
    vehicle = draw_vehicle(preset)
    simulation = Simulation(vehicle, 40, drive, "heavy")
    batches = list(simulation.batches())
    clean = messages(vehicle, Simulation(vehicle, 40, drive).batches())
    faulty = messages(vehicle, batches)
    truths: list[Label | Context] = [label for batch in batches for label in batch.labels]
    truths += [row for batch in batches for row in batch.context if row.kind == "control"]
    assert len(truths) == len(simulation.faults) > 2
    assert all(t.start_ns <= t.end_ns for t in truths)
    # Collection delays what waits with a disturbed PDU, up to a few ms.
    spans = [(t.start_ns - START_NS - 60_000_000, t.end_ns - START_NS + 60_000_000) for t in truths]

    def undisturbed(sent: list[Message]) -> Counter[int]:
        return Counter(m[0] for m in sent if not any(start <= m[0] <= end for start, end in spans))

    for pdu in clean:
        assert undisturbed(clean[pdu]) == undisturbed(faulty[pdu]), vehicle.pdus[pdu].name


def explicit(kind: str, at_s: float, size: float) -> FaultSpec:
    """One fault."""
    return FaultSpec(explicit=(ExplicitFault(kind, at_s, size=size),))


@pytest.mark.parametrize("kind", ["delay", "double", "early", "injection", "wrong_port"])
def test_labels_are_in_the_time_of_the_capture(kind: str) -> None:
    """Every message that a fault moves or adds is captured between its label's start and end."""
    vehicle = draw_vehicle("hcp", 3)
    size = {"delay": 0.3, "early": 0.3}.get(kind, 2)
    for at_s in (5.2, 5.9, 6.3):
        batches = list(Simulation(vehicle, 12, 1, explicit(kind, at_s, size)).batches())
        (label,) = [label for batch in batches for label in batch.labels]
        (pdu,) = [i for i, model in enumerate(vehicle.pdus) if model.name in label.pdus]
        clean = messages(vehicle, Simulation(vehicle, 12, 1).batches())[pdu]
        faulty = messages(vehicle, batches)[pdu]
        new = sorted((Counter(faulty) - Counter(clean)).elements())
        assert new
        assert label.start_ns <= START_NS + new[0][0]
        assert START_NS + new[-1][0] <= label.end_ns


@pytest.mark.parametrize(("at_s", "size"), [(6.1, 12), (6.6, 200)])
def test_truth_of_the_logger_is_complete(at_s: float, size: int) -> None:
    """A loss is told though it is over in the second in which it began, and up to its last frame."""
    vehicle = draw_vehicle("hcp", 3)
    clean = np.concatenate([batch.time_ns for batch in Simulation(vehicle, 15, 1).batches()])
    batches = list(Simulation(vehicle, 15, 1, explicit("capture_loss", at_s, size)).batches())
    kept = np.concatenate([batch.time_ns for batch in batches])
    lost = np.setdiff1d(clean, kept)
    (control,) = [row for batch in batches for row in batch.context if row.kind == "control"]
    assert sum(int(batch.lost_before.sum()) for batch in batches) == size
    assert control.start_ns == lost[0]
    assert control.end_ns == kept[kept > lost[-1]][0]


def test_nothing_is_sent_while_the_vehicle_sleeps() -> None:
    """In state 0 the bus is silent; in state 1 every cyclic PDU is there."""
    vehicle = draw_vehicle("hcp", 1)
    batches = list(Simulation(vehicle, 60, 2, scenario="day").batches())
    activity = [row for batch in batches for row in batch.context if row.kind == "activity"]
    times_ns = np.concatenate([batch.time_ns for batch in batches])
    pdus = np.concatenate([batch.pdu for batch in batches])
    sent_at = np.repeat(times_ns, np.concatenate([np.diff(batch.first) for batch in batches]))
    cyclic = {i for i, pdu in enumerate(vehicle.pdus) if pdu.cycle_ns and pdu.cycle_ns <= 1_000_000_000}
    for row in activity:
        inside = (sent_at >= row.start_ns) & (sent_at < row.end_ns)
        if row.state == 0:
            assert not inside.any()
        elif row.state == 1:
            assert cyclic <= set(pdus[inside].tolist())
    assert {row.state for row in activity} == {0, 1, 2}


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        *(((seconds, 1), "--seconds") for seconds in (0.0, 1e-10, -1.0, 1e300, float("nan"), float("inf"))),
        ((1.0, -1), "--drive"),
    ],
)
def test_impossible_arguments_are_refused(arguments: tuple[float, int], key: str) -> None:
    """The sentence names the option."""
    with pytest.raises(ConfigError, match=key):
        Simulation(draw_vehicle(), *arguments)
