"""Blocks of the kernel's ring, put together by the header linux/if_packet.h and taken apart."""

import struct
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from ecustream.capture.tpacket import block_length, frames_of
from ecustream.traffic import Frame

VLAN_VALID, TPID_VALID = 1 << 4, 1 << 6
OTHER_STATUS = 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 7 | 1 << 29


class Packet(NamedTuple):
    """What the kernel knows of a packet; `tci` and `tpid` count only where `status` says so."""

    time_ns: int
    data: bytes
    cut: int
    status: int
    tci: int
    tpid: int


packets = st.lists(
    st.builds(
        Packet,
        st.integers(0, 2**32 * 10**9 - 1),
        st.binary(min_size=12, max_size=40),
        st.integers(0, 9),
        st.sampled_from([0, VLAN_VALID, VLAN_VALID | TPID_VALID, TPID_VALID]).map(lambda x: x | OTHER_STATUS),
        st.integers(0, 0xFFFF),
        st.integers(0, 0xFFFF),
    ),
    max_size=5,
)


def block_of(packets: list[Packet], padding: int) -> bytes:
    """A block as the kernel writes it: tpacket_block_desc, then a tpacket3_hdr with each frame."""
    body = b""
    for i, packet in enumerate(packets):
        mac = 48 + 20 + 14 + padding
        used = mac + len(packet.data)
        step = (used + 15) // 16 * 16
        seconds, ns = divmod(packet.time_ns, 10**9)
        last = i == len(packets) - 1
        body += struct.pack(
            "=IIIII", 0 if last else step, seconds, ns, len(packet.data), len(packet.data) + packet.cut
        )
        body += struct.pack(
            "=IHHIIHH8x", packet.status, mac, mac + 14, 0xDEADBEEF, packet.tci, packet.tpid, 7
        )
        body += bytes(mac - 48) + packet.data + bytes(step - used)
    head = struct.pack("=IIIIIIQ16x", 1, 48, 1, len(packets), 48, 48 + len(body), 9)
    return head + body


@given(packets, st.integers(0, 32), st.integers(1, 2**40))
def test_every_packet_comes_out(packets: list[Packet], padding: int, number: int) -> None:
    """Each with its time in ns, its tag where the kernel took one out, and its length on the wire."""
    block = block_of(packets, padding)
    expected = []
    for i, packet in enumerate(packets):
        data, length = packet.data, len(packet.data) + packet.cut
        if packet.status & VLAN_VALID:
            tpid = packet.tpid if packet.status & TPID_VALID else 0x8100
            data = data[:12] + tpid.to_bytes(2, "big") + packet.tci.to_bytes(2, "big") + data[12:]
            length += 4
        expected.append(Frame(number + i, packet.time_ns, "eth1", 1, data, length))
    assert frames_of(block, number, "eth1", 1) == expected
    assert block_length(bytes(64) + block + bytes(64), 64) == len(block)
