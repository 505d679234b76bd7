"""PDUs to lines: streams, delta times, counters."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.decode import streams
from ecustream.decode.lines import LineBuilder
from ecustream.decode.names import NameRow, NameTable
from ecustream.decode.state import ActivityState, MappedPdu
from ecustream.errors import ConfigError
from ecustream.ledger import Ledger
from ecustream.traffic import Flow, Line, Pdu

MS = 1_000_000
A = Flow("ETH1", 3, "fd53::48", 42994, "ff14::7f", 42557)
B = A._replace(dst="239.0.0.1")
NAMES = NameTable([NameRow(1, "ESC_03"), NameRow(2, "Motor_51")])


def build(pdus: list[Pdu], key: str = "stream", batch: int = 1000) -> tuple[list[Line], Ledger]:
    """Lines of the PDUs, with books that balance up to the lines."""
    ledger = Ledger()
    builder = LineBuilder(ledger, NAMES, key)
    lines = []
    for at in range(0, len(pdus), batch):
        ledger.enter("pdus", len(pdus[at : at + batch]))
        lines += builder.build(pdus[at : at + batch])
    assert ledger.balanced(["pdus"])
    assert ledger.entered["lines"] == len(lines)
    return lines, ledger


def pdu(time_ms: float, pdu_id: int | None = 1, flow: Flow = A, frame: int = 1) -> Pdu:
    """A PDU at that time."""
    return Pdu(frame, round(time_ms * MS), flow, pdu_id, b"")


def test_line_carries_the_columns_of_the_paper() -> None:
    """Frame, time, name, addresses, state and delta time arrive in the line."""
    lines, _ = build([pdu(5, frame=8), pdu(15.25, frame=9)])
    stream = lines[0].stream
    assert lines[1] == Line(1, 9, 15_250_000, stream, 1, 10_250_000)
    assert (lines[0].number, lines[0].delta_ns) == (0, None)
    assert (stream.index, stream.name, stream.source, stream.src, stream.sport, stream.dst, stream.dport) == (
        0, "ESC_03", "ETH1", "fd53::48", 42994, "ff14::7f", 42557,
    )  # fmt: skip
    assert stream.pdu_id == 1


def test_key_is_the_stored_form() -> None:
    """Bundles store keys, so their form is fixed."""
    lines, _ = build([pdu(0), pdu(0, 9, B)])
    assert [line.stream.key for line in lines] == [
        "ESC_03|ETH1|[fd53::48]:42994|[ff14::7f]:42557",
        "PDU_0x00000009|ETH1|[fd53::48]:42994|239.0.0.1:42557",
    ]


def test_copies_for_other_receivers_do_not_disturb_the_delta_time() -> None:
    """By stream, each receiver's copy has its own delta; by name, as in the paper, they share one."""
    pdus = [pdu(0), pdu(0.5, flow=B), pdu(10), pdu(10.5, flow=B)]
    assert [line.delta_ns for line in build(pdus)[0]] == [None, None, 10 * MS, 10 * MS]
    lines, _ = build(pdus, key="name")
    assert [line.delta_ns for line in lines] == [None, MS // 2, 9_500_000, MS // 2]
    assert {line.stream.key for line in lines} == {"ESC_03"}
    assert [line.stream.dst for line in lines[:2]] == ["ff14::7f", "239.0.0.1"]


def test_lines_of_a_stream_share_one_object() -> None:
    """Streams are interned and numbered in order of first sight."""
    lines, _ = build([pdu(0, 2), pdu(1), pdu(2, 2), pdu(3)], batch=1)
    assert [line.stream.index for line in lines] == [0, 1, 0, 1]
    assert lines[0].stream is lines[2].stream


def test_time_running_backwards_gives_no_negative_delta() -> None:
    """A line that was overtaken has delta 0, and the next one counts from the latest time."""
    lines, ledger = build([pdu(100), pdu(90), pdu(120)])
    assert [line.delta_ns for line in lines] == [None, 0, 20 * MS]
    assert ledger.notes == {"time_backwards": 1}


def test_clock_that_was_set_back_costs_one_delta() -> None:
    """After a step of an hour the deltas are those of the new time."""
    hour = 3_600_000
    lines, ledger = build([pdu(hour), pdu(0), pdu(10), pdu(20)])
    assert [line.delta_ns for line in lines] == [None, 0, 10 * MS, 10 * MS]
    assert ledger.notes == {"time_backwards": 1, "clock_set_back": 1}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 900), st.integers(1, 4), st.sampled_from([A, B])), max_size=60),
    st.integers(1, 20),
    st.sampled_from(["stream", "name"]),
)
def test_delta_is_the_time_since_the_latest_line_of_the_key(
    picks: list[tuple[int, int, Flow]], batch: int, key: str
) -> None:
    """Against a plain dictionary of latest times, in any order and any batches."""
    lines, _ = build([pdu(*pick) for pick in picks], key, batch)
    latest: dict[str, int] = {}
    for line in lines:
        last = latest.get(line.stream.key)
        assert line.delta_ns == (None if last is None else max(0, line.time_ns - last))
        latest[line.stream.key] = max(line.time_ns, last or 0)
    assert [line.number for line in lines] == list(range(len(picks)))


def test_streams_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """PDUs of more streams than can be are counted and cost no memory; the known ones go on."""
    monkeypatch.setattr(streams, "MAX_STREAMS", 3)
    lines, ledger = build([*(pdu(n, n) for n in range(1, 10)), pdu(50, 1)])
    assert [line.stream.pdu_id for line in lines] == [1, 2, 3, 1]
    assert ledger.ends["pdus"]["unreadable{too_many_streams}"] == 6


def test_unknown_key_mode_is_refused() -> None:
    """A mistyped key mode is an error of the configuration."""
    with pytest.raises(ConfigError, match="'id'"):
        LineBuilder(Ledger(), key="id")


def test_state_of_a_line_includes_the_line_itself() -> None:
    """The PDU that tells the state already has it."""
    ledger = Ledger()
    state = ActivityState(MappedPdu("ESC_03", 0, 0x01, {0: 0, 1: 1}))
    builder = LineBuilder(ledger, NAMES, state=state)
    pdus = [Pdu(1, n * MS, A, pdu_id, bytes([n % 2])) for n, pdu_id in enumerate((2, 2, 1, 2, 1))]
    pdus[4].payload = b"\1"
    assert [line.state for line in builder.build(pdus)] == [1, 1, 0, 0, 1]


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(-40, 400), st.booleans()), max_size=80),
    st.booleans(),
    st.integers(1, 30),
)
def test_state_is_what_the_state_machine_says_line_by_line(
    script: list[tuple[int, int, bool]], mapped: bool, batch: int
) -> None:
    """Through starts, silences, clock steps and PDUs whose payload is read, in batches of any size."""
    key_of = {n: f"PDU_0x0000000{n}|ETH1|[fd53::48]:42994|[ff14::7f]:42557" for n in (3, 4, 5)}
    cycles_ns = dict.fromkeys(key_of.values(), 30 * MS)

    def machine() -> ActivityState:
        by = MappedPdu("ESC_03", 0, 0x01, {0: 0, 1: 1}) if mapped else None
        return ActivityState(by, nm_port=30500, cycles_ns=cycles_ns)

    pdus = []
    time_ns = 10_000 * MS
    for number, (kind, delta, bit) in enumerate(script):
        # Now and then the clock is set, or the bus is silent for long.
        time_ns += (delta if abs(delta) < 390 else 20 * delta) * MS // (1 if bit else 10)
        flow = A._replace(dport=30500) if kind == 2 else A
        pdus.append(Pdu(number, time_ns, flow, kind, bytes([bit])))
    builder = LineBuilder(Ledger(), NAMES, state=machine())
    lines = [line for at in range(0, len(pdus), batch) for line in builder.build(pdus[at : at + batch])]
    alone = machine()
    members = {}
    for pdu, line in zip(pdus, lines, strict=True):
        if line.stream.index not in members:
            members[line.stream.index] = alone.enrol(line.stream)
        assert line.state == alone.advance(members[line.stream.index], pdu.time_ns, pdu.payload)
