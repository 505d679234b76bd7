"""Names of PDUs from a table."""

from pathlib import Path

import pytest

from ecustream.decode.names import NameRow, NameTable
from ecustream.errors import InputError
from ecustream.traffic import Flow

HEADER = "id,name,vlan,src,sport,dst,dport,cycle_ms\n"
FLOW = Flow("ETH1", 3, "fd53:7cb8:383:3::48", 42994, "ff14::3:7f", 42557)


def table(tmp_path: Path, text: str) -> NameTable:
    """The table in a file with this text."""
    path = tmp_path / "names.csv"
    path.write_text(text, encoding="utf-8")
    return NameTable.load(path)


def test_row_with_a_socket_names_only_that_socket(tmp_path: Path) -> None:
    """The same id is two PDUs on two VLANs, and addresses match in any spelling."""
    names = table(
        tmp_path,
        HEADER
        + "0x3E80064,Speed_A,3,FD53:7CB8:383:0003:0::48,42994,ff14:0::3:7f,42557,20\n"
        + "65536100,Speed_B,4,,,,,\n",
    )
    assert names.name_of(FLOW, 0x3E80064) == "Speed_A"
    assert names.name_of(FLOW._replace(vlan=4), 0x3E80064) == "Speed_B"
    assert names.rows[0].cycle_ns == 20_000_000


def test_more_filled_cells_win(tmp_path: Path) -> None:
    """An exact row stands before a general one, whatever their order."""
    names = table(tmp_path, HEADER + "1,General,,,,,,\n1,Exact,3,,,,42557,\n1,Half,3,,,,,\n")
    assert names.name_of(FLOW, 1) == "Exact"
    assert names.name_of(FLOW._replace(dport=1), 1) == "Half"
    assert names.name_of(FLOW._replace(vlan=None), 1) == "General"


def test_id_alone_decides_only_without_contradiction(tmp_path: Path) -> None:
    """No matching socket: the rows' common name, or that of an unknown PDU."""
    names = table(tmp_path, HEADER + "1,One,7,,,,,\n1,One,8,,,,,\n2,Two,7,,,,,\n2,Other,8,,,,,\n")
    assert names.name_of(FLOW, 1) == "One"
    assert names.name_of(FLOW, 2) == "PDU_0x00000002"


def test_equally_exact_rows_that_disagree_name_nothing() -> None:
    """Two half-filled rows that both match are no name."""
    names = NameTable([NameRow(1, "ByVlan", vlan=3), NameRow(1, "ByPort", dport=42557)])
    assert names.name_of(FLOW, 1) == "PDU_0x00000001"


def test_unknown_pdus_get_a_name() -> None:
    """Nothing is nameless, with or without an id."""
    names = NameTable([])
    assert names.name_of(FLOW, 0x3E80064) == "PDU_0x03E80064"
    assert names.name_of(FLOW, None) == "UDP_[ff14::3:7f]:42557"
    assert names.name_of(FLOW._replace(dst="239.0.0.1"), None) == "UDP_239.0.0.1:42557"


def test_row_without_an_id_names_a_headerless_socket(tmp_path: Path) -> None:
    """It counts for datagrams without ids of its socket, and for nothing else."""
    names = table(tmp_path, HEADER + ",NM_Gateway,,,,,30500,640\n")
    assert names.name_of(FLOW._replace(dport=30500), None) == "NM_Gateway"
    assert names.name_of(FLOW, None).startswith("UDP_")
    assert names.name_of(FLOW._replace(dport=30500), 5) == "PDU_0x00000005"


def test_short_tables_from_spreadsheets_are_read(tmp_path: Path) -> None:
    """Byte order mark, CRLF, missing columns, empty rows, repeated rows and quotes are no errors."""
    names = table(tmp_path, '\ufeffName,ID\r\n"Speed, left",0x10\r\n,\r\n"Speed, left",16\r\n')
    assert names.name_of(FLOW, 16) == "Speed, left"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "line 1: the column 'id' is missing"),
        ("id,naem\n", "line 1: unknown column 'naem'"),
        ("id,name,id\n", "line 1: a column is there twice"),
        ("name\nx\n", "line 1: the column 'id' is missing"),
        (HEADER + "0xZZ,A,,,,,,\n", "line 2: id '0xZZ'"),
        (HEADER + "1,A,,,,,,\n4294967296,B,,,,,,\n", "line 3: id '4294967296'"),
        (HEADER + "-1,A,,,,,,\n", "line 2: id '-1'"),
        (HEADER + "1,,,,,,,\n", "line 2: the name ''"),
        (HEADER + "1,A,4096,,,,,\n", "line 2: vlan '4096'"),
        (HEADER + "1,A,,10.0.0.256,,,,\n", "line 2: src '10.0.0.256'"),
        (HEADER + "1,A,,,,fd53:::1,,\n", "line 2: dst 'fd53:::1'"),
        (HEADER + "1,A,,,70000,,,\n", "line 2: sport '70000'"),
        (HEADER + "1,A,,,,,,-5\n", "line 2: cycle_ms '-5'"),
        (HEADER + "1,A,,,,,,nan\n", "line 2: cycle_ms 'nan'"),
        (HEADER + ",A,,,,,,\n", "line 2: 'A' has neither an id nor a socket"),
        (HEADER + "1,A,,,,,,,9\n", "line 2: has 9 cells"),
        (HEADER + '1,"A\n', "is not CSV"),
        (HEADER + "0x01,A,3,,,,,\n1,B,3,,,,,\n", "line 3: the same PDU is called 'A' before and 'B' here"),
    ],
)
def test_wrong_table_is_refused_with_file_and_line(tmp_path: Path, text: str, sentence: str) -> None:
    """The sentence leads to the cell that is wrong."""
    with pytest.raises(InputError) as caught:
        table(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "names.csv"))
    assert sentence in str(caught.value)


def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    """A missing file and bytes that are no text are errors for the user."""
    with pytest.raises(InputError, match=r"no\.csv: cannot be read"):
        NameTable.load(tmp_path / "no.csv")
    (tmp_path / "binary.csv").write_bytes(b"id,name\n1,\xff\xfe\n")
    with pytest.raises(InputError, match="not UTF-8"):
        NameTable.load(tmp_path / "binary.csv")
