"""What the kernel's filter lets pass, asked of the kernel; scapy makes the frames."""

import ctypes
import socket
import struct
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from ecustream.capture.packet_filter import NOTHING, UDP_FRAMES, Instruction, packed
from ecustream.capture.packet_filter import passes as runs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="classic BPF is Linux's")

TAGS: dict[str, Packet | None] = {
    "untagged": None,
    "tagged": Dot1Q(vlan=5, prio=3),
    "priority tag": Dot1Q(vlan=0, prio=3),
    "QinQ": Dot1AD(vlan=2) / Dot1Q(vlan=3),
}
UDP_PACKETS = {
    "IPv4": IP() / UDP() / b"x",
    "IPv4 with options": IP(options=b"\x94\x04\0\0") / UDP() / b"x",
    "later fragment": IP(frag=10, proto=17) / b"x",
    "IPv6": IPv6() / UDP() / b"x",
    "IPv6 hop by hop": IPv6() / IPv6ExtHdrHopByHop() / UDP() / b"x",
    "IPv6 destination options": IPv6() / IPv6ExtHdrDestOpt() / UDP() / b"x",
    "IPv6 fragment": IPv6() / IPv6ExtHdrFragment(offset=8, nh=17) / b"x",
}
OTHER_PACKETS = {
    "TCP": IP() / TCP(),
    "TCP over IPv6": IPv6() / TCP(),
    "ICMP": IP() / ICMP(),
    "ARP": ARP(),
    "AVTP": Raw(bytes(60)),
}

EVERY = [*UDP_PACKETS.values(), *OTHER_PACKETS.values()]


def passes(program: tuple[Instruction, ...], data: bytes) -> bytes | None:
    """What is left of `data` behind the filter; None where it is turned away."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    code = ctypes.create_string_buffer(packed(program))
    with left, right:
        right.setblocking(False)
        right.setsockopt(socket.SOL_SOCKET, 26, struct.pack("@HP", len(program), ctypes.addressof(code)))
        try:
            left.send(data)
            return right.recv(1 << 17)
        except (BlockingIOError, PermissionError):
            return None


def framed(tags: Packet | None, packet: Packet) -> bytes:
    """A frame of these tags and this packet."""
    ether = Ether(dst="01:00:5e:00:00:01", src="02:00:00:00:00:01")
    if isinstance(packet, Raw):
        ether.type = 0x22F0
    if tags is not None:
        tags = tags.copy()
        if isinstance(packet, Raw):
            tags.lastlayer().type = 0x22F0
        return bytes(ether / tags / packet)
    return bytes(ether / packet)


@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize("name", UDP_PACKETS)
def test_udp_passes_whole(tags: str, name: str) -> None:
    """UDP over either IP passes, with and without tags in the data, options and fragments included."""
    data = framed(TAGS[tags], UDP_PACKETS[name])
    assert passes(UDP_FRAMES, data) == data


@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize("name", OTHER_PACKETS)
def test_other_protocols_do_not_pass(tags: str, name: str) -> None:
    """A flash download over TCP costs nothing, nor does an audio stream."""
    assert passes(UDP_FRAMES, framed(TAGS[tags], OTHER_PACKETS[name])) is None


@pytest.mark.parametrize("ethertype", [0x99FE, 0x2090])
def test_frames_of_loggers_pass(ethertype: int) -> None:
    """What a logger packs into frames of its own is not looked into."""
    data = bytes(12) + ethertype.to_bytes(2, "big") + bytes(46)
    assert passes(UDP_FRAMES, data) == data
    assert passes(UDP_FRAMES, bytes(12) + b"\x81\0\0\5" + data[12:]) is not None


def test_long_and_short_frames() -> None:
    """A jumbo frame is not cut; one that ends before its type passes nothing, and does no harm."""
    data = framed(None, IP(len=9000) / UDP() / bytes(8972))
    assert passes(UDP_FRAMES, data) == data
    assert [passes(UDP_FRAMES, data[:length]) for length in range(1, 24)] == [None] * 23


def test_nothing_passes_at_the_end() -> None:
    """The filter that ends a capture."""
    assert passes(NOTHING, framed(None, UDP_PACKETS["IPv4"])) is None


def jumps() -> Iterator[int]:
    """Where every jump goes."""
    for at, (operation, true, false, _) in enumerate(UDP_FRAMES):
        if operation == 0x15:
            yield from (at + 1 + true, at + 1 + false)


def test_no_jump_leaves_the_program() -> None:
    """The kernel would refuse it, on a day on which somebody has added a protocol."""
    assert max(jumps()) < len(UDP_FRAMES)


@given(st.binary(max_size=80))
def test_without_a_kernel_any_bytes(data: bytes) -> None:
    """What runs the filter where there is no kernel says of any bytes what the kernel says."""
    assert runs(UDP_FRAMES, data) == (passes(UDP_FRAMES, data) is not None)


@given(st.sampled_from(list(TAGS.values())), st.sampled_from(EVERY), st.integers(0, 90))
def test_without_a_kernel_frames(tags: Packet | None, packet: Packet, cut: int) -> None:
    """So of frames, cut anywhere."""
    data = framed(tags, packet)[:cut]
    assert runs(UDP_FRAMES, data) == (passes(UDP_FRAMES, data) is not None)
    assert not runs(NOTHING, data)
