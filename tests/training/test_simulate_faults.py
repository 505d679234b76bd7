"""Every fault changes what its label says and nothing else, however the trace is cut into slices."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from training.draws import Draws
from training.labels import Context, Label
from training.simulate.clock import pdu_clock
from training.simulate.collect import Collector
from training.simulate.faults.kinds import FAULT_KINDS
from training.simulate.faults.planned import PlannedFault
from training.simulate.scenario import Day, Phase
from training.simulate.tables import Capture, Sends, Wire
from training.simulate.vehicle import EcuModel, ModeModel, PduModel, SendType, SocketModel, Vehicle

MS = 1_000_000
SECOND = 1_000_000_000
END_NS = 24 * SECOND
AT_NS = 6 * SECOND

ESC, ESP, MOTOR, HCA, LICHT, ASK, NM, FORWARDED, FORWARDED_SLOW, STEER, ANSWER, DOOR = range(12)


def make_vehicle() -> Vehicle:
    """Three ECUs, the second of which is a gateway; a mode, a group, a service, and a copied PDU."""
    ecus = tuple(
        EcuModel(
            name, node, f"02:00:00:00:00:0{node}", 5 * MS, node * MS, drift, 10_000, 20_000, node == 2, 0, 0
        )
        for name, node, drift in (("HCP1", 1, 50_000), ("GW", 2, 0), ("HCP2", 3, -80_000))
    )
    sockets = tuple(
        SocketModel(ecu, 2, f"fd53::{ecu + 1}", port, "ff14::1", port, "soad", collect_ns)
        for ecu, port, collect_ns in (
            (0, 4000, 2 * MS),
            (0, 4001, 0),
            (1, 4002, MS),
            (0, 30500, 0),
            (2, 4004, 0),
        )
    )

    def pdu(
        pdu_id: int, name: str, ecu: int, at: tuple[int, ...], cycle_ms: int | None, **more: object
    ) -> PduModel:
        cycle_ns = None if cycle_ms is None else cycle_ms * MS
        send_type: SendType = "cyclic" if cycle_ms else "event"
        model = PduModel(pdu_id, name, ecu, at, send_type, cycle_ns, 8, bytes(8))
        return replace(model, **more)  # type: ignore[arg-type]

    pdus = (
        pdu(1, "ESC_01", 0, (0,), 20, group=1),
        pdu(2, "ESP_02", 0, (0,), 20, group=1),
        pdu(3, "Motor_03", 0, (1,), 100, phase=3),
        pdu(4, "HCA_04", 0, (0,), 1000, send_type="mode", fast_cycle_ns=20 * MS, mode=0),
        pdu(5, "Licht_05", 0, (1, 2), 50, phase=1, needs_ignition=True),
        pdu(6, "Ask_06", 0, (0,), None, role="request", event_interval_ns=300 * MS),
        pdu(0, "NM_07", 0, (3,), 200, role="nm"),
        pdu(8, "Fern_08", 1, (2,), 20, forwarded=True),
        pdu(9, "Fern_09", 1, (2,), 100, forwarded=True),
        pdu(10, "Lenkung_10", 2, (4,), 10),
        pdu(11, "Answer_11", 2, (4,), None, role="reply", replies_to=ASK, latency_ns=(2 * MS, 10 * MS)),
        pdu(12, "Tuer_12", 2, (4,), None, event_interval_ns=SECOND, repetitions=2),
    )
    return Vehicle("handmade", 7, ecus, sockets, pdus, (ModeModel("lane keeping", 8 * SECOND, 8 * SECOND),))


VEHICLE = make_vehicle()
DAY = Day(VEHICLE, (Phase("drive", 0, END_NS),), 1)


def traffic(day: Day, end_ns: int = END_NS) -> Sends:
    """What the vehicle sends, by hand: every due activation a little late, requests, replies, events."""
    tables = []
    for index, pdu in enumerate(VEHICLE.pdus):
        clock = pdu_clock(VEHICLE, index)
        for segment in day.segments(index, 0, end_ns):
            if segment.cycle_ns:
                k = np.arange(clock.first_from(segment.start_ns), clock.first_from(segment.end_ns))
                k = k[(k - pdu.phase - segment.shift) % (segment.cycle_ns // clock.raster_ns) == 0]
                late_ns = k * 7919 % 30_000 + index * 20_000
                tables.append(Sends.make(np.full(len(k), index), clock.time_ns(k) + late_ns))
    asked_ns = np.arange(50 * MS, end_ns, 310 * MS)
    for index, late_ns in ((ASK, 0), (ANSWER, 4 * MS), (DOOR, 77 * MS)):
        events = Sends.make(np.full(len(asked_ns), index), asked_ns + late_ns, False)
        events.value = np.arange(len(asked_ns))
        tables.append(events)
    sends = Sends.join(tables)
    sends = sends.take(np.lexsort((sends.pdu, sends.time_ns)))
    for index in range(len(VEHICLE.pdus)):
        own = sends.pdu == index
        sends.counter[own] = np.arange(own.sum())
    return sends


CLEAN = traffic(DAY)


def copied(table: Sends) -> Sends:
    """The same rows; faults change tables in place."""
    return table.take(np.arange(len(table)))


def draw(kind: str, seed: int, severity: int = 2, longest_s: int = 14, **given: float) -> PlannedFault | None:
    """A fault of a kind at `AT_NS`, with sockets of its own behind those of the vehicle."""
    fault = FAULT_KINDS[kind].draw(
        Draws("test", seed),
        VEHICLE,
        DAY,
        AT_NS,
        severity,
        longest_s * SECOND,
        target=int(given["target"]) if "target" in given else None,
        size=given.get("size"),
    )
    if fault is not None:
        fault.first_extra_socket = len(VEHICLE.sockets)
    return fault


def must_draw(
    kind: str, seed: int = 1, severity: int = 2, longest_s: int = 14, **given: float
) -> PlannedFault:
    """A fault that can be."""
    fault = draw(kind, seed, severity, longest_s, **given)
    assert fault is not None
    return fault


def collected(fault: PlannedFault | None, sends: Sends) -> Wire:
    """The datagrams of these sends, before a fault changes them."""
    extra = fault.extra_sockets if fault else ()
    return Collector(VEHICLE, [*VEHICLE.sockets, *extra], 1).advance(copied(sends), END_NS)


CLEAN_WIRE = collected(None, CLEAN)


def slices(cuts: list[int], fault: PlannedFault) -> list[tuple[int, int]]:
    """The slices between cuts that overlap the fault."""
    edges = sorted({0, *cuts, END_NS})
    return [(low, high) for low, high in pairwise(edges) if low < fault.until_ns and high > fault.at_ns]


def sent_with(fault: PlannedFault, cuts: list[int], sends: Sends | None = None) -> Sends:
    """What is sent with the fault, in order of time, and what of it the vehicle sends."""
    base = (traffic(DAY.edited(fault.edits)) if fault.edits else CLEAN) if sends is None else sends
    base, parts = copied(base), []
    touched = np.zeros(len(base), np.bool_)
    for low, high in slices(cuts, fault):
        rows = (base.time_ns >= low) & (base.time_ns < high)
        touched |= rows
        result = fault.on_sends(base.take(rows), low, high)
        assert (result.time_ns >= low).all()
        parts.append(result)
    rest = base.take(~touched)
    for pdu, shift in fault.counter_shift.items():
        rest.counter[(rest.pdu == pdu) & (rest.time_ns > fault.at_ns)] -= shift
    table = Sends.join([rest, *parts])
    table = table.take(table.sent)
    return table.take(np.lexsort((table.counter, table.pdu, table.time_ns)))


def wire_with(fault: PlannedFault, cuts: list[int], sends: Sends) -> Wire:
    """The datagrams that come of these sends with the fault."""
    base = collected(fault, sends)
    parts, touched = [], np.zeros(len(base), np.bool_)
    for low, high in slices(cuts, fault):
        rows = (base.time_ns >= low) & (base.time_ns < high)
        touched |= rows
        result = fault.on_wire(base.take(rows), low, high)
        assert (result.time_ns >= low).all()
        parts.append(result)
    table = Wire.join([base.take(~touched), *parts])
    return table.take(np.lexsort((table.datagram, table.time_ns)))


def capture_with(fault: PlannedFault, cuts: list[int], wire: Wire) -> tuple[list[int], list[bool]]:
    """The timestamps and losses of the datagrams."""
    times_ns = np.unique(wire.time_ns)
    stamps, losses = times_ns.copy(), np.zeros(len(times_ns), np.bool_)
    for low, high in slices(cuts, fault):
        rows = (times_ns >= low) & (times_ns < high)
        capture = Capture(times_ns[rows], stamps[rows], losses[rows])
        fault.on_capture(capture)
        stamps[rows], losses[rows] = capture.stamp_ns, capture.lost
    return stamps.tolist(), losses.tolist()


Outcome = tuple[Sends, Wire, tuple[list[int], list[bool]], Label | Context | None]


def outcome(fault: PlannedFault, cuts: list[int]) -> Outcome:
    """All that comes of a fault."""
    sends = sent_with(fault, cuts)
    wire = wire_with(fault, cuts, sends)
    return sends, wire, capture_with(fault, cuts, wire), fault.truth(0)


def places(table: Sends | Wire) -> Counter[tuple[int, int, int]]:
    """Which PDUs come when, and where."""
    return Counter(zip(table.pdu.tolist(), table.time_ns.tolist(), table.socket.tolist(), strict=True))


def changes(before: Sends | Wire, after: Sends | Wire) -> list[tuple[int, int, int]]:
    """What came and does not come any more, and the other way round, in order of time."""
    old, new = places(before), places(after)
    return sorted((old - new) + (new - old), key=lambda place: place[1])


def times_of(sends: Sends, pdu: int, label: Label | Context) -> list[int]:
    """When a PDU is sent in the time of a label, its ends included."""
    own = sends.time_ns[sends.pdu == pdu]
    return [time for time in own.tolist() if label.start_ns <= time <= label.end_ns]


KINDS = st.sampled_from(sorted(FAULT_KINDS))
CUTS = st.lists(st.integers(AT_NS - SECOND, AT_NS + 12 * SECOND), max_size=6)


@settings(max_examples=80, deadline=None)
@given(KINDS, st.integers(0, 10_000), st.integers(1, 4), CUTS)
def test_slices_do_not_matter(kind: str, seed: int, severity: int, cuts: list[int]) -> None:
    """However a trace is cut, a fault does the same, and moves nothing to before the slice."""
    fault, again = draw(kind, seed, severity), draw(kind, seed, severity)
    assume(fault is not None)
    assert fault is not None
    assert again is not None
    whole, cut = outcome(fault, []), outcome(again, cuts)
    for table, other in ((whole[0], cut[0]), (whole[1], cut[1])):
        assert places(table) == places(other)
        assert table.counter.tolist() == other.counter.tolist()
        assert table.data_ns.tolist() == other.data_ns.tolist()
    assert whole[2:] == cut[2:]
    assert fault.counter_shift == again.counter_shift


@settings(max_examples=80, deadline=None)
@given(KINDS, st.integers(0, 10_000), st.integers(1, 4))
def test_labels_cover_what_changes(kind: str, seed: int, severity: int) -> None:
    """All that is different from the clean trace lies in the label's time and is of PDUs that it names."""
    fault = draw(kind, seed, severity)
    assume(fault is not None)
    assert fault is not None
    sends, wire, capture, truth = outcome(fault, [])
    assume(truth is not None)
    assert truth is not None
    # The logger's wrong timestamps are as far from the right ones as its clock is.
    off_ns = round(abs(fault.size) * MS) if kind == "logger_clock_step" else 0
    assert fault.at_ns - off_ns <= truth.start_ns < truth.end_ns <= fault.until_ns + off_ns
    assert isinstance(truth, Context) == (fault.category is None)
    named = {*truth.pdus, "Ask_06", "Answer_11", "Tuer_12"}
    moved = changes(CLEAN, sends) + changes(collected(fault, sends), wire)
    assert moved or fault.category is None
    # A datagram that is put off and not overtaken is late, and no more.
    if kind != "reorder":
        assert {VEHICLE.pdus[pdu].name for pdu, _, _ in moved} <= named
        assert all(truth.start_ns <= time <= truth.end_ns for _, time, _ in moved)
    if kind in ("capture_loss", "logger_clock_step"):
        times = np.unique(wire.time_ns)
        assert all(
            truth.start_ns <= time <= truth.end_ns
            for time, stamp, lost in zip(times.tolist(), *capture, strict=True)
            if lost or stamp != time
        )


@pytest.mark.parametrize("kind", sorted(FAULT_KINDS))
def test_severities_and_sizes_agree(kind: str) -> None:
    """A drawn size has the severity that was asked for, and the handmade vehicle can have every kind."""
    fault_type = FAULT_KINDS[kind]
    assert fault_type.targets(VEHICLE)
    rng = Draws("sizes", kind)
    for severity in (1, 2, 3, 4):
        sizes = [fault_type.draw_size(rng, severity) for _ in range(50)]
        assert {fault_type.severity_of(size) for size in sizes} <= {severity, severity - 1}
        assert all(fault_type.allows(size) for size in sizes)
        assert any(draw(kind, seed, severity, 60) is not None for seed in range(20))
    assert not fault_type.allows(fault_type.sizes[-1][1] + 1)


@settings(max_examples=40, deadline=None)
@given(KINDS, st.integers(0, 10_000), st.integers(1, 4), st.integers(2, 30))
def test_drawn_faults_are_short_enough(kind: str, seed: int, severity: int, longest_s: int) -> None:
    """A drawn fault is over when it has to be."""
    fault = draw(kind, seed, severity, longest_s)
    assert fault is None or AT_NS <= fault.at_ns < fault.until_ns <= AT_NS + longest_s * SECOND


def test_a_vehicle_without_them_has_no_such_faults() -> None:
    """One ECU with one cyclic PDU has no gateway, mode, group, service or NM to fail."""
    lone = replace(VEHICLE, ecus=VEHICLE.ecus[:1], sockets=VEHICLE.sockets[1:2], modes=())
    lone = replace(lone, pdus=(replace(VEHICLE.pdus[MOTOR], sockets=(0,)),))
    without = {kind for kind, fault in FAULT_KINDS.items() if not fault.targets(lone)}
    assert without == {
        *("gateway_restart", "nm_loss", "no_reply", "lone_reply", "wrong_state", "order", "desync"),
        *("wrong_sender", "mode_change", "reorder"),
    }
