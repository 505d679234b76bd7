"""PDUs share datagrams as the socket's rules say, however the trace is cut into slices."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.simulate.collect import Collector
from training.simulate.tables import DATAGRAM_STEP, Sends, Wire
from training.simulate.vehicle import Collection, EcuModel, PduModel, SocketModel, Vehicle

MS = 1_000_000
WAITS_NS = (0, 1 * MS, 3 * MS)
GATEWAY = 1

Row = tuple[int, int, int, int, int, int]  # pdu, time_ns, counter, changes, value, socket
Datagram = tuple[int, int, list[tuple[int, int, int, int]]]  # time_ns, socket, (pdu, counter, changes, value)


def ecu(node: int) -> EcuModel:
    return EcuModel(
        name=f"ECU_{node}",
        node=node,
        mac=f"02:00:00:00:00:{node:02x}",
        raster_ns=5 * MS,
        anchor_ns=0,
        drift_ppb=0,
        jitter_sigma_ns=0,
        gap_ns=0,
        gateway=node == GATEWAY + 1,
        wake_delay_ns=0,
        start_delay_ns=0,
    )


def socket(owner: int = 0, collect_ns: int = 0, collection: Collection = "queued") -> SocketModel:
    return SocketModel(owner, 3, "fd53::1", 1000, "ff14::1", 1000, "soad", collect_ns, collection)


def pdu(index: int, sockets: tuple[int, ...], trigger: bool = False, length: int = 8) -> PduModel:
    return PduModel(
        0x100 + index, f"P_{index}", 0, sockets, "cyclic", 10 * MS, length, bytes(length), trigger=trigger
    )


def vehicle(sockets: Sequence[SocketModel], pdus: Sequence[PduModel]) -> Vehicle:
    return Vehicle("test", 1, (ecu(1), ecu(2)), tuple(sockets), tuple(pdus))


def sends(rows: Sequence[Row]) -> Sends:
    table = Sends.make(np.array([r[0] for r in rows], np.int64), np.array([r[1] for r in rows], np.int64))
    for name, column in (("counter", 2), ("changes", 3), ("value", 4), ("socket", 5)):
        setattr(table, name, np.array([row[column] for row in rows], np.int64))
    return table


def advanced(
    car: Vehicle, table: Sends, cuts_ns: Sequence[int], extra: Sequence[SocketModel] = ()
) -> tuple[list[Datagram], list[Wire]]:
    """The datagrams of a table that is handed over in slices, and the result of each slice."""
    collector = Collector(car, (*car.sockets, *extra), drive=0)
    wires, lower_ns = [], 0
    for until_ns in cuts_ns:
        part = table.take((table.time_ns >= lower_ns) & (table.time_ns < until_ns))
        wires.append(collector.advance(part, until_ns))
        lower_ns = until_ns
    return datagrams(Wire.join(wires)), wires


def datagrams(wire: Wire) -> list[Datagram]:
    found: dict[int, Datagram] = {}
    for at in range(len(wire)):
        key, when, where = int(wire.datagram[at]), int(wire.time_ns[at]), int(wire.socket[at])
        content = (int(wire.pdu[at]), int(wire.counter[at]), int(wire.changes[at]), int(wire.value[at]))
        begun = found.setdefault(key, (when, where, []))
        assert begun[:2] == (when, where)
        begun[2].append(content)
    return list(found.values())


def reference(car: Vehicle, where: int, rows: Sequence[Row], until_ns: int) -> list[Datagram]:
    """What one socket of the rows' own ECU sends before a time, PDU by PDU."""
    out: list[Datagram] = []
    buffer: list[tuple[int, int, int, int]] = []
    model, opened_ns = car.sockets[where], 0

    def leave(when_ns: int) -> None:
        if buffer and when_ns < until_ns:
            out.append((when_ns, where, list(buffer)))
        buffer.clear()

    for index, time_ns, counter, changes, value, _ in sorted(rows, key=lambda r: (r[1], r[0], r[2])):
        if where not in car.pdus[index].sockets:
            continue
        if buffer and time_ns >= opened_ns + model.collect_ns:
            leave(opened_ns + model.collect_ns)
        content = (index, counter, changes, value)
        places = [at for at, held in enumerate(buffer) if held[0] == index]
        if places and model.collection == "last_is_best":
            buffer[places[0]] = content
        else:
            size = sum(8 + car.pdus[held[0]].length for held in buffer) + 8 + car.pdus[index].length
            if size > 1400:
                leave(time_ns)
            if not buffer:
                opened_ns = time_ns
            buffer.append(content)
        if car.pdus[index].trigger or model.collect_ns == 0:
            leave(time_ns)
    leave(opened_ns + model.collect_ns)
    return out


@st.composite
def cars(draw: st.DrawFn) -> Vehicle:
    """Sockets of every kind, with PDUs of which some fill a datagram in three."""
    sockets = [
        socket(0, draw(st.sampled_from(WAITS_NS)), draw(st.sampled_from(("queued", "last_is_best"))))
        for _ in range(draw(st.integers(1, 4)))
    ]
    indices = st.lists(st.sampled_from(range(len(sockets))), min_size=1, max_size=4, unique=True)
    pdus = [
        pdu(
            i,
            tuple(draw(indices)),
            draw(st.integers(0, 4)) == 0,
            draw(st.sampled_from((4, 64, 342, 344, 1600))),
        )
        for i in range(draw(st.integers(1, 8)))
    ]
    return vehicle(sockets, pdus)


@st.composite
def tables(draw: st.DrawFn, car: Vehicle, extra: int = 0) -> list[Row]:
    """Sends within 20 ms, on a raster so that times meet each other, time-outs and the ends of slices."""
    times = draw(st.lists(st.integers(0, 39), max_size=60))
    counts = [0] * len(car.pdus)
    rows: list[Row] = []
    for time in sorted(times):
        index = draw(st.integers(0, len(car.pdus) - 1))
        where = draw(st.integers(len(car.sockets), len(car.sockets) + extra - 1)) if extra else -1
        only = where if draw(st.booleans()) else -1
        rows.append((index, time * MS // 2, counts[index], draw(st.integers(0, 3)), len(rows), only))
        counts[index] += 1
    return rows


CUTS = st.lists(st.integers(1, 49), max_size=6, unique=True).map(
    lambda halves: [half * MS // 2 for half in sorted(halves)]
)


@settings(max_examples=150, deadline=None)
@given(st.data(), cars(), CUTS)
def test_same_as_one_pdu_after_the_other(data: st.DataObject, car: Vehicle, cuts_ns: list[int]) -> None:
    """The datagrams are those of buffers that are filled PDU by PDU, up to the end of the last slice."""
    rows = data.draw(tables(car))
    until_ns = data.draw(st.sampled_from([20 * MS, 40 * MS]))
    found, _ = advanced(car, sends(rows), [cut for cut in cuts_ns if cut < until_ns] + [until_ns])
    expected = [d for where in range(len(car.sockets)) for d in reference(car, where, rows, until_ns)]
    assert sorted(found, key=lambda d: d[:2]) == sorted(expected, key=lambda d: d[:2])


@settings(max_examples=100, deadline=None)
@given(st.data(), cars(), CUTS)
def test_slices_and_order_do_not_matter(data: st.DataObject, car: Vehicle, cuts_ns: list[int]) -> None:
    """Copies of gateways and sockets of faults included, slices and order of rows change no number."""
    sockets = [replace(model, ecu=data.draw(st.sampled_from((0, GATEWAY)))) for model in car.sockets]
    car = replace(car, sockets=tuple(sockets))
    extra = [socket(GATEWAY, 2 * MS), socket(0)]
    table = sends(data.draw(tables(car, extra=len(extra))))
    end_ns = 60 * MS
    shuffled = table.take(np.array(data.draw(st.permutations(range(len(table)))), np.int64))
    whole, [one_wire] = advanced(car, table, [end_ns], extra)
    found, wires = advanced(car, shuffled, [*cuts_ns, end_ns], extra)
    assert found == whole
    assert Wire.join(wires).datagram.tolist() == one_wire.datagram.tolist()


@settings(max_examples=50, deadline=None)
@given(st.data(), cars(), CUTS)
def test_order_and_numbers(data: st.DataObject, car: Vehicle, cuts_ns: list[int]) -> None:
    """Each slice has its own times; datagrams are in order of time and number, their rows together."""
    _, wires = advanced(car, sends(data.draw(tables(car))), [*cuts_ns, 40 * MS])
    lower_ns = 0
    for wire, until_ns in zip(wires, [*cuts_ns, 40 * MS], strict=True):
        assert ((wire.time_ns >= lower_ns) & (wire.time_ns < until_ns)).all()
        lower_ns = until_ns
    joined = Wire.join(wires)
    assert (np.diff(joined.time_ns) >= 0).all()
    assert set(np.diff(joined.datagram).tolist()) <= {0, DATAGRAM_STEP}
    assert (joined.datagram % DATAGRAM_STEP == 0).all()


def test_gateway_copies_come_later() -> None:
    """A gateway's copies are 0 to 2 ms late, each by its own, faults' sockets or not; others are not late."""
    car = vehicle([socket(0), socket(GATEWAY)], [pdu(0, (0, 1)), pdu(1, (1,))])
    rows: list[Row] = [(i % 2, i * 10 * MS, i // 2, 0, 0, -1) for i in range(2000)]
    found, _ = advanced(car, sends(rows), [30_000 * MS])
    sent_ns = {(index, counter): time_ns for index, time_ns, counter, *_ in rows}
    late: dict[int, list[int]] = {0: [], 1: []}
    for time_ns, where, [(index, counter, _, _)] in found:
        late[where].append(time_ns - sent_ns[index, counter])
    assert len(late[0]) == 1000
    assert set(late[0]) == {0}
    assert len(late[1]) == 2000
    assert 0 <= min(late[1]) < 10_000
    assert 1_990_000 < max(late[1]) <= 2 * MS
    assert np.mean(late[1]) == pytest.approx(MS, rel=0.05)
    with_extra, _ = advanced(car, sends(rows), [30_000 * MS], extra=[socket(GATEWAY)])
    assert with_extra == found
    other = Collector(car, car.sockets, drive=1).advance(sends(rows), 30_000 * MS)
    assert other.time_ns.tolist() != [time_ns for time_ns, _, _ in found]


def test_directed_and_unsent_rows() -> None:
    """A send to one socket goes only there, whichever the PDU has; one that is not sent goes nowhere."""
    car = vehicle([socket(), socket()], [pdu(0, (0, 1))])
    table = sends([(0, 0, 0, 0, 0, -1), (0, 5, 1, 0, 0, 2), (0, 6, 2, 0, 0, 0), (0, 7, 3, 0, 0, -1)])
    table.sent[3] = False
    found, _ = advanced(car, table, [10], extra=[socket()])
    assert [(where, rows[0][1]) for _, where, rows in found] == [(0, 0), (1, 0), (2, 1), (0, 2)]


def test_headerless_layouts_do_not_collect() -> None:
    """Where a datagram is one PDU, each leaves at once, whatever the socket's time to collect."""
    sockets = [replace(socket(0, 3 * MS), layout=layout) for layout in ("none", "gptp")]
    car = vehicle(sockets, [pdu(0, (0, 1)), pdu(1, (0, 1))])
    found, _ = advanced(car, sends([(0, 1, 0, 0, 0, -1), (1, 2, 0, 0, 0, -1)]), [MS])
    assert [(time_ns, where, len(rows)) for time_ns, where, rows in found] == [
        (1, 0, 1),
        (1, 1, 1),
        (2, 0, 1),
        (2, 1, 1),
    ]


def test_data_is_read_when_it_is_best() -> None:
    """The content that takes another's place has its own sampling time."""
    car = vehicle([socket(0, 3 * MS, "last_is_best")], [pdu(0, (0,)), pdu(1, (0,))])
    table = sends([(0, 0, 0, 0, 0, -1), (1, 1, 0, 0, 0, -1), (0, 2, 1, 0, 0, -1)])
    wire = Collector(car, car.sockets, 0).advance(table, 4 * MS)
    assert wire.pdu.tolist() == [0, 1]
    assert wire.data_ns.tolist() == [2, 1]
    assert wire.time_ns.tolist() == [3 * MS] * 2


@pytest.mark.parametrize("until_ns", [3 * MS, 3 * MS + 1])
def test_slices_end_before_their_end(until_ns: int) -> None:
    """What leaves just when a slice ends is the next slice's."""
    car = vehicle([socket(0, 3 * MS)], [pdu(0, (0,))])
    _, wires = advanced(car, sends([(0, 0, 0, 0, 0, -1)]), [until_ns, 4 * MS])
    assert [len(wire) for wire in wires] == ([0, 1] if until_ns == 3 * MS else [1, 0])


@pytest.mark.parametrize(("last", "sizes"), [(342, [4]), (344, [3, 1])])
def test_a_datagram_holds_1400_bytes(last: int, sizes: list[int]) -> None:
    """Headers included, 1400 bytes fit; with more, what was there leaves when the PDU too many comes."""
    car = vehicle(
        [socket(0, 3 * MS)], [pdu(i, (0,), length=342) for i in range(3)] + [pdu(3, (0,), length=last)]
    )
    found, _ = advanced(car, sends([(i, i, 0, 0, 0, -1) for i in range(4)]), [4 * MS])
    assert [len(rows) for _, _, rows in found] == sizes
    assert found[0][0] == (3 * MS if len(sizes) == 1 else 3)
