"""The name table of a simulated vehicle."""

from pathlib import Path

from ecustream.decode.names import NameRow, NameTable
from ecustream.traffic import Flow
from training.simulate.names import NM_PORT, name_rows, name_table
from training.simulate.vehicle import EcuModel, PduModel, Role, SendType, SocketModel, Vehicle

A, B = "fd53:7cb8:383:3::1", "fd53:7cb8:383:3::2"


def ecu(node: int) -> EcuModel:
    return EcuModel(f"ECU{node}", node, f"02:00:00:00:00:{node:02x}", 5_000_000, 0, 0, 0, 0, False, 0, 0)


def pdu(
    pdu_id: int, name: str, sockets: tuple[int, ...], cycle_ns: int | None, role: Role = "com"
) -> PduModel:
    send_type: SendType = "event" if cycle_ns is None else "cyclic"
    return PduModel(pdu_id, name, 0, sockets, send_type, cycle_ns, 8, bytes(8), role=role)


VEHICLE = Vehicle(
    "handmade",
    0,
    (ecu(1), ecu(2)),
    (
        SocketModel(0, 3, A, 42994, "ff14::3:7f", 42557),
        SocketModel(0, None, "10.0.0.1", 42994, "239.0.0.1", 42558),
        SocketModel(0, 3, A, NM_PORT, "ff14::3:fe", NM_PORT, layout="none"),
        SocketModel(0, 3, "", 0, "", 0, layout="gptp"),
        SocketModel(0, 3, A, 40509, B, 30509),
        SocketModel(1, 3, B, 30509, A, 40509),
    ),
    (
        pdu(0x03E80064, "Speed", (0, 1), 20_000_000),
        pdu(0x03E80065, "Steering, left", (0,), 2_500_000),
        pdu(0x12340001, "Seat_Request", (4,), None, "request"),
        pdu(0x12340001, "Seat_Reply", (5,), None, "reply"),
        pdu(0, "NM_ECU1", (2,), 639_960_000, "nm"),
        pdu(0, "Sync", (3,), 125_000_000, "sync"),
    ),
)


def test_one_row_for_each_pdu_and_socket() -> None:
    """Sockets without headers give rows without ids, gPTP gives none."""
    assert [(row.pdu_id, row.name, row.vlan, row.dport, row.cycle_ns) for row in name_rows(VEHICLE)] == [
        (0x03E80064, "Speed", 3, 42557, 20_000_000),
        (0x03E80064, "Speed", None, 42558, 20_000_000),
        (0x03E80065, "Steering, left", 3, 42557, 2_500_000),
        (0x12340001, "Seat_Request", 3, 30509, None),
        (0x12340001, "Seat_Reply", 3, 40509, None),
        (None, "NM_ECU1", 3, NM_PORT, 639_960_000),
    ]


def test_table_loads_as_the_same_rows(tmp_path: Path) -> None:
    """Names, sockets and cycles survive the file, cycles of part of a millisecond too."""
    path = tmp_path / "names.csv"
    path.write_text(name_table(VEHICLE), encoding="utf-8")
    assert NameTable.load(path).rows == name_rows(VEHICLE)


def test_table_is_as_people_write_it() -> None:
    """Whole milliseconds have no point, unknown cells are empty."""
    lines = name_table(VEHICLE).splitlines()
    assert lines[0] == "id,name,vlan,src,sport,dst,dport,cycle_ms"
    assert lines[1] == f"0x03E80064,Speed,3,{A},42994,ff14::3:7f,42557,20"
    assert lines[2] == "0x03E80064,Speed,,10.0.0.1,42994,239.0.0.1,42558,20"
    assert lines[3].startswith('0x03E80065,"Steering, left"')
    assert lines[3].endswith(",2.5")
    assert lines[6] == f",NM_ECU1,3,{A},30500,ff14::3:fe,30500,639.96"


def test_request_and_reply_are_told_apart_by_their_sockets() -> None:
    """They share an id, and each flow has its own name."""
    names = NameTable(name_rows(VEHICLE))
    assert names.name_of(Flow("ETH1", 3, A, 40509, B, 30509), 0x12340001) == "Seat_Request"
    assert names.name_of(Flow("ETH1", 3, B, 30509, A, 40509), 0x12340001) == "Seat_Reply"


def test_addresses_are_in_canonical_form() -> None:
    """A vehicle that spells an address otherwise still gets rows that match its traffic."""
    odd = SocketModel(0, 3, "FD53:7CB8:383:0003::1", 1, "FF14:0::3:7F", 2)
    vehicle = Vehicle("odd", 0, (ecu(1),), (odd,), (pdu(1, "One", (0,), None),))
    assert name_rows(vehicle) == [NameRow(1, "One", 3, A, 1, "ff14::3:7f", 2, None)]
