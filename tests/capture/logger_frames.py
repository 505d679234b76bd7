"""Writes frames of loggers byte by byte for tests: TECMP, PLP and ASAM CMP."""

from struct import pack
from typing import NamedTuple

from ecustream.traffic import Frame

S, MS = 10**9, 10**6
START_NS = 1_700_000_000 * S
TECMP, PLP = 0x99FE, 0x2090
MULTICAST, LOGGER = bytes.fromhex("0300000000ff"), bytes.fromhex("70b3d5200001")


class Recorded(NamedTuple):
    """One entry of a logger's frame."""

    interface: int
    time_ns: int
    data: bytes
    flags: int = 0


def udp_frame(payload: bytes, port: int = 60000, vlan: int | None = 3) -> bytes:
    """An Ethernet frame as on a vehicle's bus."""
    tag = b"" if vlan is None else pack(">HH", 0x8100, vlan)
    udp = pack(">HHHH", 40001, port, 8 + len(payload), 0) + payload
    ip = pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, b"\x0a\0\0\1", b"\x0a\0\0\2")
    words = sum(int.from_bytes(ip[i : i + 2], "big") for i in range(0, 20, 2))
    words = (words & 0xFFFF) + (words >> 16)
    ip = ip[:10] + pack(">H", ~(words + (words >> 16)) & 0xFFFF) + ip[12:]
    return b"\x02\0\0\0\0\2\x02\0\0\0\0\1" + tag + b"\x08\0" + ip + udp


def pdu_frame(pdu_id: int, value: int = 0) -> bytes:
    """One with one PDU."""
    return udp_frame(pack(">IIQ", pdu_id, 8, value))


def carried(payload: bytes, ethertype: int, tags: tuple[int, ...] = ()) -> bytes:
    """The logger's own frame, padded as a network card does."""
    tag = b"".join(pack(">HH", kind, 7) for kind in tags)
    return (MULTICAST + LOGGER + tag + pack(">H", ethertype) + payload).ljust(60, b"\0")


def tecmp(
    recorded: list[Recorded],
    counter: int = 0,
    *,
    device: int = 0x0080,
    version: int = 3,
    message: int = 3,
    kind: int = 0x80,
    flags: int = 0x000F,
    ethertype: int = TECMP,
    tags: tuple[int, ...] = (),
) -> bytes:
    """A frame of TECMP or PLP."""
    payload = pack(">HHBBHHH", device, counter & 0xFFFF, version, message, kind, 0, flags)
    for entry in recorded:
        payload += pack(">IQHH", entry.interface, entry.time_ns, len(entry.data), entry.flags) + entry.data
    return carried(payload, ethertype, tags)


def cmp_message(entry: Recorded, kind: int = 8, flags: int = 0, ethernet_flags: int = 0) -> bytes:
    """A message of ASAM CMP; `entry.flags` are its common flags."""
    payload = pack(">HHH", ethernet_flags, 0, len(entry.data)) + entry.data if kind == 8 else entry.data
    return cmp_part(entry, payload, kind, flags)


def cmp_part(entry: Recorded, payload: bytes, kind: int = 8, flags: int = 0) -> bytes:
    """A message with this payload, which may be a segment."""
    return pack(">QIBBH", entry.time_ns, entry.interface, entry.flags | flags, kind, len(payload)) + payload


def cmp(
    messages: list[bytes],
    counter: int = 0,
    *,
    device: int = 0x21,
    message: int = 1,
    stream: int = 5,
    version: int = 1,
) -> bytes:
    """A frame of ASAM CMP."""
    header = pack(">BBHBBH", version, 0, device, message, stream, counter & 0xFFFF)
    return carried(header + b"".join(messages), TECMP)


def captured(frames: list[bytes], time_ns: int = START_NS, step_ns: int = MS, number: int = 1) -> list[Frame]:
    """Frames as captured on `eth1`."""
    return [
        Frame(number + i, time_ns + i * step_ns, "eth1", 1, data, len(data)) for i, data in enumerate(frames)
    ]
