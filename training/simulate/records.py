"""Encode batches as the records of a capture file: pcapng or pcap, nanoseconds both."""

import struct
from typing import Literal

import numpy as np

from training.simulate.frames import FrameEncoder
from training.simulate.simulation import Batch
from training.simulate.vehicle import Vehicle

__all__ = ["CaptureFormat", "RecordEncoder"]

CaptureFormat = Literal["pcapng", "pcap"]

INTERFACE = b"ETH1"
LINKTYPE_ETHERNET = 1
BLOCK_ALIGNMENT = 4
# Block types and option codes of draft-ietf-opsawg-pcapng.
SECTION_HEADER, INTERFACE_DESCRIPTION, ENHANCED_PACKET = 0x0A0D0D0A, 1, 6
BYTE_ORDER_MAGIC = 0x1A2B3C4D
IF_NAME, IF_TSRESOL = 2, 9
NANOSECONDS = 9
PACKET_HEADER_BYTES = 28
PACKET_TRAILER_BYTES = 4
# Magic of draft-ietf-opsawg-pcap with nanosecond timestamps.
PCAP_NANOSECOND_MAGIC = 0xA1B23C4D
PCAP_HEADER_BYTES = 16


class RecordEncoder:
    """The bytes of a capture of one vehicle: `file_header`, then `records` of every batch in turn."""

    def __init__(self, vehicle: Vehicle, capture_format: CaptureFormat) -> None:
        self._pcapng = capture_format == "pcapng"
        if self._pcapng:
            self._frames = FrameEncoder(vehicle, PACKET_HEADER_BYTES, PACKET_TRAILER_BYTES, BLOCK_ALIGNMENT)
        else:
            self._frames = FrameEncoder(vehicle, PCAP_HEADER_BYTES, 0, 2)

    def file_header(self) -> bytes:
        """What stands before the first record."""
        if not self._pcapng:
            return struct.pack("<IHHiIII", PCAP_NANOSECOND_MAGIC, 2, 4, 0, 0, 0, LINKTYPE_ETHERNET)
        unknown_length = -1
        section = struct.pack("<IHHq", BYTE_ORDER_MAGIC, 1, 0, unknown_length)
        options = struct.pack("<HH4sHHB3xHH", IF_NAME, 4, INTERFACE, IF_TSRESOL, 1, NANOSECONDS, 0, 0)
        interface = struct.pack("<HHI", LINKTYPE_ETHERNET, 0, 0) + options
        return _block(SECTION_HEADER, section) + _block(INTERFACE_DESCRIPTION, interface)

    def records(self, batch: Batch) -> bytes:
        """One record a datagram."""
        frames = self._frames.encode(batch)
        count = len(frames.start)
        if self._pcapng:
            padded = frames.length + -frames.length % BLOCK_ALIGNMENT
            block = PACKET_HEADER_BYTES + padded + PACKET_TRAILER_BYTES
            header = np.zeros((count, PACKET_HEADER_BYTES // 4), dtype="<u4")
            header[:, 0] = ENHANCED_PACKET
            header[:, 1] = block
            header[:, 3] = batch.time_ns >> 32
            header[:, 4] = batch.time_ns & 0xFFFFFFFF
            header[:, 5] = header[:, 6] = frames.length
            trailer_at = frames.start + padded
            frames.data[trailer_at[:, None] + np.arange(4)] = block.astype("<u4")[:, None].view(np.uint8)
        else:
            header = np.zeros((count, PCAP_HEADER_BYTES // 4), dtype="<u4")
            header[:, 0], header[:, 1] = np.divmod(batch.time_ns, 1_000_000_000)
            header[:, 2] = header[:, 3] = frames.length
        width = 4 * header.shape[1]
        frames.data[frames.start[:, None] - width + np.arange(width)] = header.view(np.uint8)
        return frames.data.tobytes()


def _block(block_type: int, body: bytes) -> bytes:
    length = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", block_type) + length + body + length
