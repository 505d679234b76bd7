"""Frames for the decoder's tests, built by scapy, which is the independent oracle here."""

import struct
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from scapy.layers import inet, inet6
from scapy.layers.inet import IP, UDP, IPOption_NOP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, PadN
from scapy.layers.ipsec import AH
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from ecustream.decode.packets import PacketDecoder
from ecustream.ledger import Ledger
from ecustream.traffic import Flow, Frame, Pdu

fragment_ipv4: Callable[[Packet, int], list[Packet]] = inet.fragment
fragment_ipv6: Callable[[Packet, int], list[Packet]] = inet6.fragment6

SOAD = {"*": "soad"}
NONE = {"*": "none"}

IPV4_SRC, IPV4_DST = "10.1.2.3", "239.0.0.7"
IPV6_SRC, IPV6_DST = "fd53:7cb8:383:3::48", "ff14::3:7f"


def frame(data: bytes, number: int = 1, time_ns: int = 0, wire_length: int = 0, linktype: int = 1) -> Frame:
    """A captured frame from interface ETH1."""
    return Frame(number, time_ns, "ETH1", linktype, data, wire_length or len(data))


def soad(*pdus: tuple[int, bytes]) -> bytes:
    """A datagram's payload of SoAd PDUs."""
    return b"".join(struct.pack(">II", pdu_id, len(payload)) + payload for pdu_id, payload in pdus)


def someip(
    pdu_id: int, payload: bytes, kind: int = 2, version: int = 1, tp_offset: int | None = None
) -> bytes:
    """A SOME/IP message; a segment of one where `tp_offset` (in units of 16 bytes) is given."""
    if tp_offset is not None:
        kind, payload = kind | 0x20, struct.pack(">I", tp_offset << 4 | 1) + payload
    return struct.pack(">IIIBBBB", pdu_id, 8 + len(payload), 1, version, 1, kind, 0) + payload


def udp_frame(
    payload: bytes, version: int = 6, sport: int = 42994, dport: int = 42557, vlan: int | None = 3
) -> bytes:
    """An Ethernet frame with one UDP datagram."""
    link = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    if vlan is not None:
        link = link / Dot1Q(vlan=vlan)
    ip = IP(src=IPV4_SRC, dst=IPV4_DST) if version == 4 else IPv6(src=IPV6_SRC, dst=IPV6_DST)
    return bytes(link / ip / UDP(sport=sport, dport=dport) / Raw(payload))


def run(
    frames: list[Frame], layouts: dict[str, str] | None = None, batch: int = 1000
) -> tuple[list[Pdu], Ledger]:
    """Decode frames as a reader would hand them on, to the end, and check that the frames' book balances."""
    ledger = Ledger()
    decoder = PacketDecoder(ledger, layouts)
    pdus = []
    for at in range(0, len(frames), batch):
        ledger.enter("frames", len(frames[at : at + batch]))
        pdus += decoder.decode(frames[at : at + batch])
    decoder.flush()
    assert ledger.balanced(["frames"]), ledger.sentences()
    assert ledger.open("pdus") == len(pdus)
    return pdus, ledger


ports = st.integers(1, 0xFFFF)
ipv4_addresses = st.binary(min_size=4, max_size=4).map(lambda raw: ".".join(str(byte) for byte in raw))
ipv6_addresses = st.ip_addresses(v=6).map(str)

_extensions: list[Callable[[], Any]] = [
    lambda: IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]),
    lambda: IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)]),
    lambda: IPv6ExtHdrRouting(addresses=["fd53::1", "fd53::2"], segleft=0),
]


@st.composite
def datagrams(draw: st.DrawFn, payload: st.SearchStrategy[bytes]) -> tuple[bytes, Flow, bytes]:
    """Bytes of an Ethernet frame as scapy builds it, and the flow and payload that it must give."""
    vlans = draw(st.lists(st.integers(0, 0xFFF), max_size=2))
    tpid = draw(st.sampled_from([0x8100, 0x88A8, 0x9100]))
    link: Packet = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    if vlans:
        link.type = tpid
    for vlan in vlans:
        link = link / Dot1Q(vlan=vlan, prio=draw(st.integers(0, 7)))
    sport, dport, body = draw(ports), draw(ports), draw(payload)
    if draw(st.booleans()):
        src, dst = draw(ipv4_addresses), draw(ipv4_addresses)
        options = [IPOption_NOP()] * (4 * draw(st.integers(0, 10)))
        ip: Packet = IP(src=src, dst=dst, options=options, id=draw(st.integers(0, 0xFFFF)), flags="DF")
        ip_type = 0x0800
    else:
        src, dst = draw(ipv6_addresses), draw(ipv6_addresses)
        ip = IPv6(src=src, dst=dst, fl=draw(st.integers(0, 0xFFFFF)))
        for make in draw(st.lists(st.sampled_from(_extensions), max_size=3)):
            ip = ip / make()
        if draw(st.booleans()):
            ip = ip / AH(nh=17, spi=1, seq=1, icv=b"\0" * 12, payloadlen=4)
        ip_type = 0x86DD
    if not vlans:
        link.type = ip_type
    else:
        link.lastlayer().type = ip_type
    padding = draw(st.binary(max_size=20))
    data = bytes(link / ip / UDP(sport=sport, dport=dport) / Raw(body)) + padding
    return data, Flow("ETH1", vlans[-1] if vlans else None, src, sport, dst, dport), body
