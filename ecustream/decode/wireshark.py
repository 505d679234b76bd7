"""A Wireshark profile that shows the PDUs of a name table under their names.

The tables are those of the dissectors `PDU Transport`, `Signal PDU` and `SOME/IP`. Only the columns which
all versions have are written (newer ones add some), every field in quotes and hexadecimal without 0x:
Wireshark 4.0 reads nothing else. Its tables know no sockets, so an id with two names gets both, and one
with more gets what these begin with.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

from ecustream.decode.names import NameRow

__all__ = ["wireshark_profile"]

_SERVICE_DISCOVERY = 0xFFFF8100
"""Service 0xffff and method 0x8100 of every SD message (AUTOSAR PRS_SOMEIPServiceDiscovery)."""
_MOST_JOINED = 2


def wireshark_profile(rows: Iterable[NameRow], nm_port: int | None = None) -> dict[str, str]:
    """The files of a profile folder: file name to text, in UTF-8.

    Datagrams to the destination ports of rows with an id are dissected as AUTOSAR PDUs, and as SOME/IP
    where the port has nothing but service discovery, requests and replies. SOME/IP events elsewhere have
    the shape of PDUs and show their names as well; where one decodes them as SOME/IP by hand, the names
    of services and methods are there, too. Rows without an id name nothing here.

    Args:
        rows: the names, such as `NameTable.rows`.
        nm_port: destination port of UDP network management, which is dissected as AUTOSAR NM.
    """
    rows = [row for row in rows if row.pdu_id is not None]
    names: dict[int, dict[str, None]] = {}
    for row in rows:
        names.setdefault(row.pdu_id or 0, {})[row.name] = None
    by_id = {pdu_id: _joined(list(names[pdu_id])) for pdu_id in sorted(names)}
    pdu_ports, someip_ports = _ports(rows, nm_port)
    decode_as = [(port, "SOME/IP") for port in someip_ports]
    if nm_port is not None:
        decode_as.append((nm_port, "AUTOSAR NM"))
    by_hex = [(f"{pdu_id:08x}", name) for pdu_id, name in by_id.items()]
    return {
        "PDU_Transport_identifiers": _table(by_hex),
        # Signal PDUs become names of display filter fields, which have no other characters.
        "Signal_PDU_identifiers": _table((key, re.sub("[^A-Za-z0-9_-]+", "_", name)) for key, name in by_hex),
        "Signal_PDU_Binding_PDU_Transport": _table((pdu_id, pdu_id) for pdu_id, _ in by_hex),
        "SOMEIP_service_identifiers": _table(_services(names)),
        "SOMEIP_method_event_identifiers": _table((key[:4], key[4:], name) for key, name in by_hex),
        "preferences": f"pdu_transport.ports.udp: {','.join(map(str, pdu_ports))}\n",
        "decode_as_entries": "".join(
            f"decode_as_entry: udp.port,{port},(none),{protocol}\n" for port, protocol in decode_as
        ),
    }


def _ports(rows: Sequence[NameRow], nm_port: int | None) -> tuple[list[int], list[int]]:
    """Destination ports of AUTOSAR PDUs, and of SOME/IP."""
    ways = {(row.pdu_id, row.src, row.sport, row.dst, row.dport) for row in rows}
    pdu_ports: set[int] = set()
    someip_ports: set[int] = set()
    for row in rows:
        if row.dport is None or row.dport == nm_port:
            continue
        # An id that goes both ways between two sockets is that of a method: request and reply share it.
        there_and_back = (row.pdu_id, row.dst, row.dport, row.src, row.sport) in ways
        known = row.src is not None and row.src != row.dst
        is_someip = row.pdu_id == _SERVICE_DISCOVERY or (known and there_and_back)
        (someip_ports if is_someip else pdu_ports).add(row.dport)
    return sorted(pdu_ports), sorted(someip_ports - pdu_ports)


def _services(names: Mapping[int, Iterable[str]]) -> list[tuple[str, str]]:
    """Services by what the names of their methods and events begin with, where that says something."""
    members: dict[int, list[str]] = {}
    for pdu_id in sorted(names):
        members.setdefault(pdu_id >> 16, []).extend(names[pdu_id])
    named = [(f"{service:04x}", _common_words(words)) for service, words in members.items()]
    return [(service, name) for service, name in named if name]


def _joined(names: Sequence[str]) -> str:
    """All names of an id, or of many, such as the SD of every ECU, what they have in common."""
    return (len(names) > _MOST_JOINED and _common_words(names)) or " / ".join(names)


def _common_words(names: Sequence[str]) -> str:
    """The words with which all names begin; empty where they do not."""
    columns = zip(*(re.split(r"([ ._/-]+)", name) for name in names), strict=False)
    common = takewhile(lambda words: len(set(words)) == 1, columns)
    return "".join(words[0] for words in common).rstrip(" ._/-")


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    return "".join(",".join(f'"{_escaped(cell)}"' for cell in row) + "\n" for row in rows)


def _escaped(cell: str) -> str:
    return cell.replace("\\", "\\x5c").replace('"', "\\x22")
