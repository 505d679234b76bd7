"""The names of a simulated vehicle's PDUs, as rows and as a CSV table."""

import csv
import io

from ecustream.decode.addresses import canonical_address
from ecustream.decode.names import NameRow
from training.simulate.vehicle import PduModel, SocketModel, Vehicle

__all__ = ["NAME_COLUMNS", "NM_PORT", "name_rows", "name_table"]

NAME_COLUMNS = ("id", "name", "vlan", "src", "sport", "dst", "dport", "cycle_ms")
NM_PORT = 30500
"""Destination port of network management, as in the public trace of Technica."""


def name_rows(vehicle: Vehicle) -> list[NameRow]:
    """One row for each PDU and socket on which it goes out, in the vehicle's order of PDUs.

    PDUs on sockets without PDU headers have no id there; gPTP, which has no UDP sockets, has no rows.
    `cycle_ns` is the nominal cycle, of a mode-switched PDU the slow one, and None for events.
    """
    return [
        _row(pdu, vehicle.sockets[socket])
        for pdu in vehicle.pdus
        for socket in pdu.sockets
        if vehicle.sockets[socket].layout != "gptp"
    ]


def name_table(vehicle: Vehicle) -> str:
    """The rows as CSV with the columns `NAME_COLUMNS`, as `ecustream.decode.names.NameTable` loads it."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(NAME_COLUMNS)
    for row in name_rows(vehicle):
        pdu_id = "" if row.pdu_id is None else f"0x{row.pdu_id:08X}"
        table.writerow((pdu_id, row.name, *row.socket(), _milliseconds(row.cycle_ns)))
    return text.getvalue()


def _row(pdu: PduModel, socket: SocketModel) -> NameRow:
    return NameRow(
        pdu_id=None if socket.layout == "none" else pdu.pdu_id,
        name=pdu.name,
        vlan=socket.vlan,
        src=canonical_address(socket.source),
        sport=socket.source_port,
        dst=canonical_address(socket.destination),
        dport=socket.destination_port,
        cycle_ns=pdu.cycle_ns,
    )


def _milliseconds(cycle_ns: int | None) -> str:
    if cycle_ns is None:
        return ""
    whole, rest = divmod(cycle_ns, 1_000_000)
    return f"{whole}.{rest:06d}".rstrip("0").rstrip(".")
