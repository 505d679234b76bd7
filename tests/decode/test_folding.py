"""Streams stay few, whatever comes."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from ecustream.decode.folding import MOST_IDS, MOST_PAIRS, MOST_PORTS, Folding
from ecustream.decode.lines import LineBuilder
from ecustream.decode.names import NameRow, NameTable
from ecustream.ledger import Ledger
from ecustream.traffic import Flow, Line, Pdu

FLOW = Flow("eth1", None, "10.0.0.1", 40000, "10.0.0.2", 123)


def lines_of(flows: Sequence[tuple[Flow, int | None]], names: NameTable | None = None) -> list[Line]:
    """A line for each of these."""
    builder = LineBuilder(Ledger(), names)
    return builder.build([Pdu(n, n * 1000, flow, pdu_id, b"") for n, (flow, pdu_id) in enumerate(flows, 1)])


def ports_of(lines: list[Line]) -> set[tuple[int, int]]:
    return {(line.stream.sport, line.stream.dport) for line in lines}


def test_a_client_that_takes_a_new_port_each_time() -> None:
    """The first ports are told, all others are port 0, at either end; the name follows."""
    asks = [(FLOW._replace(sport=port), None) for port in range(1024, 9000)]
    answers = [(FLOW._replace(dport=port), None) for port in range(1024, 9000)]
    lines = lines_of(asks)
    assert ports_of(lines) == {(port, 123) for port in range(1024, 1024 + MOST_PORTS)} | {(0, 123)}
    lines = lines_of(answers)
    assert ports_of(lines) == {(40000, port) for port in range(1024, 1024 + MOST_PORTS)} | {(40000, 0)}
    assert lines[-1].stream.name == "UDP_10.0.0.2:0"
    # They are one stream, with one delta time.
    assert lines[-1].delta_ns == 1000


def test_both_ports_new_each_time() -> None:
    """A scan of ports is one stream as well."""
    lines = lines_of([(FLOW._replace(sport=port, dport=port), None) for port in range(1024, 9000)])
    assert len(ports_of(lines)) == MOST_PAIRS + 1
    assert ports_of(lines[-100:]) == {(0, 0)}


def test_ids_of_what_only_looks_like_pdus() -> None:
    """Any id, as in a video stream that was read as PDUs: the datagrams without ids are one stream."""
    lines = lines_of([(FLOW, number * 7919) for number in range(5000)])
    names = {line.stream.name for line in lines}
    assert len(names) == MOST_IDS + 1
    assert lines[-1].stream.name == "UDP_10.0.0.2:123"


def test_named_pdus_keep_their_ids() -> None:
    """A table may name as many as it likes, and a name does not get lost with the port."""
    table = NameTable([NameRow(i, f"P{i}") for i in range(3000)] + [NameRow(None, "TIME", dport=123)])
    assert {line.stream.name for line in lines_of([(FLOW, i) for i in range(3000)], table)} == {
        f"P{i}" for i in range(3000)
    }
    asks = [(FLOW._replace(sport=port), None) for port in range(1024, 2000)]
    assert {line.stream.name for line in lines_of(asks, table)} == {"TIME"}


@given(st.data())
def test_what_was_told_stays_so(data: st.DataObject) -> None:
    """A flow has the same stream whenever it comes again."""
    port = st.integers(1, 400)
    flows = [
        (FLOW._replace(sport=data.draw(port), dport=data.draw(port)), data.draw(st.sampled_from([None, 1])))
        for _ in range(data.draw(st.integers(1, 60)))
    ]
    builder = LineBuilder(Ledger())
    told: dict[tuple[Flow, int | None], str] = {}
    for _ in range(2):
        for flow, pdu_id in flows:
            (line,) = builder.build([Pdu(1, 1, flow, pdu_id, b"")])
            assert told.setdefault((flow, pdu_id), line.stream.key) == line.stream.key
        builder._slots.clear()


def test_few_are_told_apart() -> None:
    """What vehicles have is not touched."""
    folding = Folding()
    for sport in range(MOST_PORTS):
        for pdu_id in range(50):
            flow = FLOW._replace(sport=sport)
            assert folding.fold(flow, pdu_id, named=False) == (flow, pdu_id)
