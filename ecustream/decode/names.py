"""Names of PDUs, from a CSV table `id,name,vlan,src,sport,dst,dport,cycle_ms`."""

import csv
from collections.abc import Iterable
from os import PathLike
from typing import NamedTuple, Self

from ecustream.decode.addresses import canonical_address
from ecustream.decode.streams import endpoint
from ecustream.errors import InputError
from ecustream.traffic import Flow

__all__ = ["NameRow", "NameTable", "unnamed"]

_COLUMNS = ("id", "name", "vlan", "src", "sport", "dst", "dport", "cycle_ms")


class NameRow(NamedTuple):
    """One row: the PDU `pdu_id` is called `name` on sockets that have these fields; None is any.

    A row without `pdu_id` names the datagrams of a socket that has no PDU headers. `cycle_ns` is what the
    table says about the cycle, a hint: how often a PDU comes is learnt from traffic.
    """

    pdu_id: int | None
    name: str
    vlan: int | None = None
    src: str | None = None
    sport: int | None = None
    dst: str | None = None
    dport: int | None = None
    cycle_ns: int | None = None

    def socket(self) -> tuple[int | str | None, ...]:
        """The cells that say where the name holds."""
        return self[2:7]

    def matches(self, flow: Flow) -> bool:
        """Whether the name holds on this flow."""
        return all(
            cell is None or cell == actual for cell, actual in zip(self.socket(), flow[1:], strict=True)
        )


class NameTable:
    """Looks names up by flow and PDU id.

    Of the rows with the id that match the flow, those with the most filled cells count. Where none
    matches, the id alone decides, if all rows with it agree. Rows that disagree name nothing: then the
    PDU gets the name of an unknown one, `PDU_0x03E80064`, or `UDP_<dst>:<dport>` where it has no id.

    Args:
        rows: the table.
    """

    def __init__(self, rows: Iterable[NameRow]) -> None:
        self.rows = list(rows)
        self._by_id: dict[int | None, list[NameRow]] = {}
        for row in self.rows:
            self._by_id.setdefault(row.pdu_id, []).append(row)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read a table from a CSV file (UTF-8, comma); columns but `id` and `name` may be missing.

        Ids are hexadecimal with 0x or decimal, empty cells mean any.

        Raises:
            InputError: the file cannot be read or a row is wrong; the sentence names file and line.
        """
        rows: list[NameRow] = []
        seen: dict[tuple[int | str | None, ...], str] = {}
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(file, strict=True)
                header = [cell.strip().lower() for cell in next(reader, [])]
                _check_header(header, path)
                for cells in reader:
                    if not any(cell.strip() for cell in cells):
                        continue
                    where = f"{path}, line {reader.line_num}"
                    row = _read_row(header, cells, where)
                    place = (row.pdu_id, *row.socket())
                    if seen.setdefault(place, row.name) != row.name:
                        raise InputError(
                            f"{where}: the same PDU is called {seen[place]!r} before and {row.name!r} here"
                        )
                    rows.append(row)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: is not UTF-8 text at offset {error.start}") from None
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num}: is not CSV: {error}") from None
        return cls(rows)

    def name_of(self, flow: Flow, pdu_id: int | None) -> str:
        """The name of a PDU on a flow; never empty."""
        rows = self._by_id.get(pdu_id, [])
        matching = [row for row in rows if row.matches(flow)]
        if matching:
            filled = [sum(cell is not None for cell in row.socket()) for row in matching]
            names = {row.name for row, count in zip(matching, filled, strict=True) if count == max(filled)}
        else:
            names = {row.name for row in rows} if pdu_id is not None else set()
        if len(names) == 1:
            return names.pop()
        return unnamed(flow, pdu_id)


def unnamed(flow: Flow, pdu_id: int | None) -> str:
    """What a PDU is called that has no name."""
    return f"UDP_{endpoint(flow.dst, flow.dport)}" if pdu_id is None else f"PDU_0x{pdu_id:08X}"


def _check_header(header: list[str], path: str | PathLike[str]) -> None:
    unknown = [cell for cell in header if cell not in _COLUMNS]
    if unknown:
        raise InputError(f"{path}, line 1: unknown column {unknown[0]!r}; columns are {','.join(_COLUMNS)}")
    for column in ("id", "name"):
        if column not in header:
            raise InputError(f"{path}, line 1: the column {column!r} is missing")
    if len(set(header)) < len(header):
        raise InputError(f"{path}, line 1: a column is there twice")


def _read_row(header: list[str], cells: list[str], where: str) -> NameRow:
    if len(cells) > len(header):
        raise InputError(f"{where}: has {len(cells)} cells, the header has {len(header)}")
    row = {column: cell.strip() for column, cell in zip(header, cells, strict=False)}
    name = row.get("name", "")
    if not name or not name.isprintable():
        raise InputError(f"{where}: the name {name!r} is not a printable word")
    found = NameRow(
        _read_int(row.get("id", ""), 0xFFFFFFFF, "id", where),
        name,
        _read_int(row.get("vlan", ""), 0xFFF, "vlan", where),
        _read_address(row.get("src", ""), "src", where),
        _read_int(row.get("sport", ""), 0xFFFF, "sport", where),
        _read_address(row.get("dst", ""), "dst", where),
        _read_int(row.get("dport", ""), 0xFFFF, "dport", where),
        _read_cycle(row.get("cycle_ms", ""), where),
    )
    if found.pdu_id is None and not any(cell is not None for cell in found.socket()):
        raise InputError(f"{where}: {name!r} has neither an id nor a socket")
    return found


def _read_int(text: str, highest: int, column: str, where: str) -> int | None:
    if not text:
        return None
    try:
        value = int(text, 16 if text[:2].lower() == "0x" else 10)
    except ValueError:
        value = -1
    if not 0 <= value <= highest:
        raise InputError(f"{where}: {column} {text!r} is no whole number from 0 to {highest:#x}")
    return value


def _read_address(text: str, column: str, where: str) -> str | None:
    try:
        return canonical_address(text) if text else None
    except ValueError:
        raise InputError(f"{where}: {column} {text!r} is no IPv4 or IPv6 address") from None


def _read_cycle(text: str, where: str) -> int | None:
    if not text:
        return None
    try:
        cycle_ms = float(text)
    except ValueError:
        cycle_ms = 0.0
    if not 0 < cycle_ms <= 86_400_000:
        raise InputError(f"{where}: cycle_ms {text!r} is no number of milliseconds above 0")
    return round(cycle_ms * 1e6)
