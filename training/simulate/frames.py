"""Encode datagrams as Ethernet frames, many at a time: VLAN, IPv6 or IPv4, UDP and SoAd headers, or gPTP.

A PDU with a header is `[u32 id][u32 length][payload]`, big-endian, repeated to the end of the datagram
(AUTOSAR_SWS_SocketAdaptor 7.3). Checksums are those of RFC 791 and RFC 8200 8.1. Frames shorter than 60
bytes are padded as on the wire.
"""

import ipaddress
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.draws import IntArray
from training.simulate.batch import Batch
from training.simulate.collect import PDU_HEADER_BYTES
from training.simulate.vehicle import SocketModel, Vehicle

__all__ = ["FrameEncoder", "Frames"]

ETHERTYPE_VLAN = 0x8100
ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD
ETHERTYPE_GPTP = 0x88F7
GPTP_MAC = bytes.fromhex("0180c200000e")
UDP = 17
HOP_LIMIT = 64
DONT_FRAGMENT = 0x4000
MIN_FRAME_BYTES = 60
# Of IP headers, from their first byte.
IPV4_LENGTH_AT, IPV4_CHECKSUM_AT, IPV4_ADDRESSES_AT, IPV4_BYTES = 2, 10, 12, 20
IPV6_LENGTH_AT, IPV6_ADDRESSES_AT, IPV6_BYTES = 4, 8, 40
UDP_LENGTH_AT, UDP_CHECKSUM_AT = 4, 6

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames in one buffer of bytes; frame i is `data[start[i] : start[i] + length[i]]`."""

    data: npt.NDArray[np.uint8]
    start: IntArray
    length: IntArray


@dataclass(frozen=True, slots=True)
class _Header:
    """What stands before the PDUs of a socket's frames, lengths and checksums left 0.

    Attributes:
        data: the bytes, an even number.
        version: 4 or 6; 0 for gPTP, which has neither IP nor UDP.
        ip_at: where the IP header begins, after Ethernet and VLAN header.
    """

    data: bytes
    version: int
    ip_at: int


class FrameEncoder:
    """Encodes the batches of one vehicle.

    Args:
        vehicle: whose batches come.
        sockets: `vehicle.sockets` and what faults add.
        before: bytes to leave before every frame for a record header, even.
        after: bytes to leave after every frame for a record trailer, even.
        align: zero bytes are left after a frame until its length is a multiple of this, 2 or 4.
    """

    def __init__(
        self, vehicle: Vehicle, sockets: Sequence[SocketModel], before: int, after: int, align: int
    ) -> None:
        self._before, self._after, self._align = before, after, align
        headers = [_header(vehicle, socket) for socket in sockets]
        widest = max(len(header.data) for header in headers)
        self._header = np.array([list(header.data.ljust(widest, b"\0")) for header in headers], np.uint8)
        self._header_bytes = np.array([len(header.data) for header in headers], np.int64)
        self._version = np.array([header.version for header in headers], np.int64)
        self._ip_at = np.array([header.ip_at for header in headers], np.int64)
        self._ip_sum = np.array([_words(h.data[h.ip_at : h.ip_at + IPV4_BYTES]) for h in headers], np.int64)
        # The pseudo header but for the length: addresses and next header.
        self._pseudo_sum = np.array([_words(_addresses(header)) + UDP for header in headers], np.int64)
        self._has_pdu_headers = np.array([socket.layout == "soad" for socket in sockets], np.bool_)
        self._length = np.array([pdu.length for pdu in vehicle.pdus], np.int64)
        pdu_headers = [struct.pack(">II", pdu.pdu_id, pdu.length) for pdu in vehicle.pdus]
        self._pdu_header = np.array([list(header) for header in pdu_headers], np.uint8)

    def encode(self, batch: Batch, room: IntArray | int = 0) -> Frames:
        """The frames of a batch, with the space asked for around each of them.

        Args:
            batch: the datagrams.
            room: even number of bytes to leave after each frame, beside those for every frame.
        """
        socket = batch.socket
        datagram = np.repeat(np.arange(len(socket)), np.diff(batch.first))
        pdu_header_bytes = np.where(self._has_pdu_headers[socket[datagram]], PDU_HEADER_BYTES, 0)
        pdu_length = self._length[batch.pdu]
        upto = np.concatenate([[0], np.cumsum(pdu_header_bytes + pdu_length)])
        header_bytes = self._header_bytes[socket]
        body = np.diff(upto[batch.first])
        length = np.maximum(header_bytes + body, MIN_FRAME_BYTES)
        record = self._before + length + -length % self._align + self._after + room
        ends = np.cumsum(record)
        start = ends - record + self._before
        data = np.zeros(int(record.sum()), np.uint8)

        for size in np.unique(header_bytes).tolist():
            rows = np.flatnonzero(header_bytes == size)
            data[start[rows, None] + np.arange(size)] = self._header[socket[rows], :size]
        at = (start + header_bytes)[datagram] + upto[:-1] - upto[batch.first[datagram]]
        rows = np.flatnonzero(pdu_header_bytes)
        data[at[rows, None] + np.arange(PDU_HEADER_BYTES)] = self._pdu_header[batch.pdu[rows]]
        at += pdu_header_bytes
        for size in np.unique(pdu_length).tolist():
            rows = np.flatnonzero(pdu_length == size)
            data[at[rows, None] + np.arange(size)] = batch.payload[rows, :size]
        self._finish_ip(data, socket, start + self._ip_at[socket], start + header_bytes + body)
        return Frames(data, start, length)

    def _finish_ip(
        self, data: npt.NDArray[np.uint8], socket: IntArray, ip_at: IntArray, end: IntArray
    ) -> None:
        """Fill in lengths and checksums of IP and UDP; `end` is where the datagrams end, without padding."""
        v4 = np.flatnonzero(self._version[socket] == 4)
        v6 = np.flatnonzero(self._version[socket] == 6)
        udp_at = ip_at.copy()
        udp_at[v4] += IPV4_BYTES
        udp_at[v6] += IPV6_BYTES
        total_length = end[v4] - ip_at[v4]
        _put_u16(data, ip_at[v4] + IPV4_LENGTH_AT, total_length)
        _put_u16(data, ip_at[v4] + IPV4_CHECKSUM_AT, _checksum(self._ip_sum[socket[v4]] + total_length))
        udp_bytes = end - udp_at
        _put_u16(data, ip_at[v6] + IPV6_LENGTH_AT, udp_bytes[v6])
        rows = np.concatenate([v4, v6])
        _put_u16(data, udp_at[rows] + UDP_LENGTH_AT, udp_bytes[rows])
        # Headers and frames start on even bytes, so sums over 16-bit words are differences of a running sum.
        upto = np.concatenate([[0], np.cumsum(data.view(">u2"), dtype=np.int64)])
        words = upto[end[rows] // 2] - upto[udp_at[rows] // 2]
        checksum = _checksum(words + self._pseudo_sum[socket[rows]] + udp_bytes[rows])
        _put_u16(data, udp_at[rows] + UDP_CHECKSUM_AT, np.where(checksum == 0, 0xFFFF, checksum))


def _header(vehicle: Vehicle, socket: SocketModel) -> _Header:
    source_mac = _mac(vehicle.ecus[socket.ecu].mac)
    if socket.layout == "gptp":
        ethernet = GPTP_MAC + source_mac + _ethertype(socket, ETHERTYPE_GPTP)
        return _Header(ethernet, 0, len(ethernet))
    source, destination = (ipaddress.ip_address(a) for a in (socket.source, socket.destination))
    addresses = source.packed + destination.packed
    if destination.version == 4:
        ethertype = ETHERTYPE_IPV4
        ip = struct.pack(">BxHHHBBH", 0x45, 0, 0, DONT_FRAGMENT, HOP_LIMIT, UDP, 0) + addresses
    else:
        ethertype = ETHERTYPE_IPV6
        ip = struct.pack(">IHBB", 6 << 28, 0, UDP, HOP_LIMIT) + addresses
    ethernet = _destination_mac(vehicle, destination) + source_mac + _ethertype(socket, ethertype)
    udp = struct.pack(">HHHH", socket.source_port, socket.destination_port, 0, 0)
    return _Header(ethernet + ip + udp, destination.version, len(ethernet))


def _destination_mac(vehicle: Vehicle, destination: Address) -> bytes:
    packed = destination.packed
    if destination.is_multicast:
        if destination.version == 6:
            return b"\x33\x33" + packed[-4:]
        return b"\x01\x00\x5e" + bytes([packed[1] & 0x7F]) + packed[2:]
    node = packed[-1]
    of_ecu = [_mac(ecu.mac) for ecu in vehicle.ecus if ecu.node == node]
    return of_ecu[0] if of_ecu else bytes([0x02, 0, 0, 0, 0, node])


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _ethertype(socket: SocketModel, ethertype: int) -> bytes:
    if socket.vlan is None:
        return struct.pack(">H", ethertype)
    return struct.pack(">HHH", ETHERTYPE_VLAN, socket.vlan, ethertype)


def _addresses(header: _Header) -> bytes:
    if header.version == 4:
        return header.data[header.ip_at + IPV4_ADDRESSES_AT : header.ip_at + IPV4_BYTES]
    return header.data[header.ip_at + IPV6_ADDRESSES_AT : header.ip_at + IPV6_BYTES]


def _words(data: bytes) -> int:
    return int(np.frombuffer(data, ">u2").sum(dtype=np.int64))


def _checksum(total: IntArray) -> IntArray:
    """The Internet checksum of a sum of 16-bit words (RFC 1071)."""
    for _ in range(2):
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def _put_u16(data: npt.NDArray[np.uint8], at: IntArray, value: IntArray) -> None:
    data[at] = value >> 8
    data[at + 1] = value & 0xFF
