"""The Wireshark profile of a name table, read by Wireshark itself."""

import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw
from scapy.utils import wrpcapng

from ecustream.decode.names import NameRow
from ecustream.decode.wireshark import wireshark_profile

TSHARK = shutil.which("tshark")
CLIENT, SERVER = "fd53:7cb8:383:3::1", "fd53:7cb8:383:3::2"
ROWS = [
    NameRow(0x03E80064, "VehicleSpeed", 3, SERVER, 42994, "ff14::3:7f", 42557, 20_000_000),
    NameRow(0x03E80064, "VehicleSpeed", 4, SERVER, 42994, "ff14::4:7f", 42557, 20_000_000),
    NameRow(0x03E80065, 'Dist, "front" \\ ä', 3, SERVER, 42994, "ff14::3:7f", 42557),
    NameRow(0x00000007, "Low", dport=53),
    NameRow(0x12340001, "SeatHeater_Set", 3, CLIENT, 40509, SERVER, 30509),
    NameRow(0x12340001, "SeatHeater_Reply", 3, SERVER, 30509, CLIENT, 40509),
    NameRow(0xFFFF8100, "SD", 3, SERVER, 30490, "ff14::3:fd", 30490),
    NameRow(None, "NM_Body", 3, SERVER, 30500, "ff14::3:fe", 30500, 640_000_000),
]


def pdu(pdu_id: int, payload: bytes) -> bytes:
    return struct.pack(">II", pdu_id, len(payload)) + payload


def someip(message_type: int, payload: bytes) -> bytes:
    """What follows id and length of a SOME/IP message."""
    return struct.pack(">HHBBBB", 1, 1, 1, 1, message_type, 0) + payload


def frame(dport: int, payload: bytes) -> Packet:
    ethernet = Ether(src="02:00:00:00:00:01", dst="33:33:00:00:00:7f") / Dot1Q(vlan=3)
    return ethernet / IPv6(src=SERVER, dst="ff14::3:7f") / UDP(sport=42994, dport=dport) / Raw(payload)


def seen(folder: Path, profile: dict[str, str], packets: Sequence[Packet], *fields: str) -> list[list[str]]:
    """The fields that tshark shows of each packet when it uses the profile, and nothing of this machine's."""
    if TSHARK is None:
        pytest.skip("tshark is not installed: the Wireshark profile is not tested")
    place = folder / "wireshark" / "profiles" / "named"
    place.mkdir(parents=True)
    for name, text in profile.items():
        (place / name).write_text(text, encoding="utf-8")
    trace = folder / "trace.pcapng"
    wrpcapng(str(trace), list(packets))
    command = [TSHARK, "-C", "named", "-r", str(trace), "-T", "fields"]
    command += [word for field in fields for word in ("-e", field)]
    places = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    run = subprocess.run(
        command, check=True, capture_output=True, encoding="utf-8", timeout=60, env=os.environ | places
    )
    assert "Error" not in run.stderr
    return [line.split("\t") for line in run.stdout.splitlines()]


def test_names_show_in_tshark(tmp_path: Path) -> None:
    """The PDUs of a datagram have their names, odd ones too, also on a port of another protocol."""
    packets = [
        frame(42557, pdu(0x03E80064, b"1234") + pdu(0x03E80065, b"12345678")),
        frame(53, pdu(7, b"12")),
    ]
    rows = seen(tmp_path, wireshark_profile(ROWS, 30500), packets, "pdu_transport.id", "_ws.col.Info")
    assert rows == [
        [
            "0x03e80064,0x03e80065",
            'PDU (ID: 0x3e80064, VehicleSpeed), PDU (ID: 0x3e80065, Dist, "front" \\ ä)',
        ],
        ["0x00000007", "PDU (ID: 0x7, Low)"],
    ]


def test_signal_pdus_are_bound(tmp_path: Path) -> None:
    """The payload of a PDU is a signal PDU with the same name, as far as its characters are allowed there."""
    packets = [frame(42557, pdu(0x03E80064, b"1234") + pdu(0x03E80065, b"12"))]
    rows = seen(tmp_path, wireshark_profile(ROWS), packets, "signal_pdu.name")
    assert rows == [["VehicleSpeed,Dist_front_"]]


def test_network_management_and_someip_are_dissected(tmp_path: Path) -> None:
    """NM, service discovery, and a method's request and reply go to the dissectors that know them."""
    discovery = someip(2, bytes((0xC0, 0, 0, 0)) + bytes(8))
    packets = [
        frame(30500, bytes((0x01, 0x05)) + bytes(6)),
        frame(30490, pdu(0xFFFF8100, discovery)),
        frame(30509, pdu(0x12340001, someip(0x00, b"ab"))),
        frame(40509, pdu(0x12340001, someip(0x80, b"ab"))),
    ]
    fields = ("_ws.col.Protocol", "autosar-nm.src", "someip.servicename", "someip.methodname")
    assert seen(tmp_path, wireshark_profile(ROWS, 30500), packets, *fields) == [
        ["AUTOSAR NM", "5", "", ""],
        ["SOME/IP-SD", "", "SD", "SD"],
        ["SOME/IP", "", "SeatHeater", "SeatHeater_Set / SeatHeater_Reply"],
        ["SOME/IP", "", "SeatHeater", "SeatHeater_Set / SeatHeater_Reply"],
    ]


def test_every_table_is_quoted_and_without_repetition() -> None:
    """Fields are in quotes, hexadecimal has no 0x, an id has one row however many sockets it has."""
    profile = wireshark_profile(ROWS)
    assert profile["PDU_Transport_identifiers"].splitlines() == [
        '"00000007","Low"',
        '"03e80064","VehicleSpeed"',
        '"03e80065","Dist, \\x22front\\x22 \\x5c ä"',
        '"12340001","SeatHeater_Set / SeatHeater_Reply"',
        '"ffff8100","SD"',
    ]
    assert '"0000","0007","Low"' in profile["SOMEIP_method_event_identifiers"].splitlines()
    assert profile["preferences"] == "pdu_transport.ports.udp: 53,42557\n"
    assert "AUTOSAR NM" not in profile["decode_as_entries"]


def test_port_with_pdus_beside_methods_stays_with_the_pdus() -> None:
    """Where both share a port, dissecting as PDUs shows all names."""
    rows = [*ROWS, NameRow(5, "Beside", dport=30509)]
    profile = wireshark_profile(rows)
    assert "30509" in profile["preferences"]
    assert "30509" not in profile["decode_as_entries"]
    assert "udp.port,40509,(none),SOME/IP" in profile["decode_as_entries"]


def test_id_with_many_names() -> None:
    """The same id of many senders is called by the words that their names begin with, if there are any."""
    sd = [
        NameRow(0xFFFF8100, f"SD_{name}", src=f"10.0.0.{n}") for n, name in enumerate(("Body", "Bolt", "X"))
    ]
    other = [NameRow(9, name, src=f"10.0.0.{n}") for n, name in enumerate(("SpeedA", "SpeedB", "Speed_C"))]
    lines = wireshark_profile(sd + other)["PDU_Transport_identifiers"].splitlines()
    assert lines == ['"00000009","SpeedA / SpeedB / Speed_C"', '"ffff8100","SD"']


def test_same_port_on_both_ends_is_no_method() -> None:
    """A row that knows no addresses is not its own way back."""
    profile = wireshark_profile([NameRow(9, "Speed", sport=42557, dport=42557)])
    assert profile["preferences"] == "pdu_transport.ports.udp: 42557\n"
    assert profile["decode_as_entries"] == ""


def test_table_without_ids() -> None:
    """A table of header-less sockets alone gives an empty profile that still knows network management."""
    profile = wireshark_profile([ROWS[-1]], 30500)
    assert profile["PDU_Transport_identifiers"] == ""
    assert profile["decode_as_entries"] == "decode_as_entry: udp.port,30500,(none),AUTOSAR NM\n"
