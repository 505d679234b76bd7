"""Encode datagrams as Ethernet frames: VLAN, IPv6, UDP and SoAd PDU headers, many at a time.

A PDU is `[u32 id][u32 length][payload]`, big-endian, repeated to the end of the datagram: the header of
AUTOSAR_SWS_SocketAdaptor 7.3. The UDP checksum is that of RFC 8200 8.1.
"""

import ipaddress
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.simulate.schedule import PDU_HEADER_BYTES, IntArray
from training.simulate.simulation import Batch
from training.simulate.vehicle import DESTINATION, DESTINATION_PORT, SOURCE_PORT, VLAN, EcuModel, Vehicle

__all__ = ["FrameEncoder", "Frames"]

ETHERTYPE_VLAN = 0x8100
ETHERTYPE_IPV6 = 0x86DD
UDP = 17
HOP_LIMIT = 64
IPV6_LENGTH_AT = 22
UDP_AT = 58
UDP_LENGTH_AT = 62
CHECKSUM_AT = 64
PDUS_AT = 66


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames in one buffer of bytes; frame i is `data[start[i] : start[i] + length[i]]`."""

    data: npt.NDArray[np.uint8]
    start: IntArray
    length: IntArray


class FrameEncoder:
    """Encodes the batches of one vehicle.

    Args:
        vehicle: whose batches come.
        before: bytes to leave before every frame for a record header, even.
        after: bytes to leave after every frame for a record trailer, even.
        align: zero bytes are left after a frame until its length is a multiple of this, 2 or 4.
    """

    def __init__(self, vehicle: Vehicle, before: int, after: int, align: int) -> None:
        self._before, self._after, self._align = before, after, align
        headers = [_headers(ecu) for ecu in vehicle.ecus]
        self._header = np.array([list(header) for header in headers], dtype=np.uint8)
        # The pseudo header but for the length: addresses and next header.
        self._pseudo_sum = np.array(
            [int(np.frombuffer(header[26:58], dtype=">u2").sum(dtype=np.int64)) + UDP for header in headers],
            dtype=np.int64,
        )
        self._length = np.array([pdu.length for pdu in vehicle.pdus], dtype=np.int64)
        pdu_headers = [struct.pack(">II", pdu.pdu_id, pdu.length) for pdu in vehicle.pdus]
        self._pdu_header = np.array([list(header) for header in pdu_headers], dtype=np.uint8)

    def encode(self, batch: Batch) -> Frames:
        """The frames of a batch, with the room asked for around each of them."""
        pdu_bytes = PDU_HEADER_BYTES + self._length[batch.pdu]
        upto = np.concatenate([[0], np.cumsum(pdu_bytes)])
        body = np.diff(upto[batch.first])
        length = PDUS_AT + body
        record = self._before + length + -length % self._align + self._after
        ends = np.cumsum(record)
        start = ends - record + self._before
        data = np.zeros(int(record.sum()), dtype=np.uint8)

        data[start[:, None] + np.arange(PDUS_AT)] = self._header[batch.sender]
        for at in (IPV6_LENGTH_AT, UDP_LENGTH_AT):
            _put_u16(data, start + at, 8 + body)
        datagram = np.repeat(np.arange(len(start)), np.diff(batch.first))
        at = start[datagram] + PDUS_AT + upto[:-1] - upto[batch.first[datagram]]
        data[at[:, None] + np.arange(PDU_HEADER_BYTES)] = self._pdu_header[batch.pdu]
        for size in np.unique(self._length[batch.pdu]).tolist():
            rows = np.flatnonzero(self._length[batch.pdu] == size)
            data[at[rows, None] + PDU_HEADER_BYTES + np.arange(size)] = batch.payload[rows, :size]
        _put_u16(data, start + CHECKSUM_AT, self._checksums(data, start, length, batch.sender))
        return Frames(data, start, length)

    def _checksums(
        self, data: npt.NDArray[np.uint8], start: IntArray, length: IntArray, sender: IntArray
    ) -> IntArray:
        # Frames start and end on even bytes, so the sums over 16-bit words are differences of a running sum.
        upto = np.concatenate([[0], np.cumsum(data.view(">u2"), dtype=np.int64)])
        words = upto[(start + length) // 2] - upto[(start + UDP_AT) // 2]
        total = words + self._pseudo_sum[sender] + length - UDP_AT
        for _ in range(2):
            total = (total & 0xFFFF) + (total >> 16)
        checksum = total ^ 0xFFFF
        return np.where(checksum == 0, 0xFFFF, checksum)


def _headers(ecu: EcuModel) -> bytes:
    """Ethernet, VLAN, IPv6 and UDP header of an ECU's datagrams, lengths and checksum left 0."""
    destination = ipaddress.IPv6Address(DESTINATION).packed
    multicast_mac = b"\x33\x33" + destination[-4:]
    ethernet = multicast_mac + bytes.fromhex(ecu.mac.replace(":", ""))
    vlan = struct.pack(">HHH", ETHERTYPE_VLAN, VLAN, ETHERTYPE_IPV6)
    ipv6 = struct.pack(">IHBB", 6 << 28, 0, UDP, HOP_LIMIT) + ipaddress.IPv6Address(ecu.address).packed
    return ethernet + vlan + ipv6 + destination + struct.pack(">HHHH", SOURCE_PORT, DESTINATION_PORT, 0, 0)


def _put_u16(data: npt.NDArray[np.uint8], at: IntArray, value: IntArray) -> None:
    data[at] = value >> 8
    data[at + 1] = value & 0xFF
