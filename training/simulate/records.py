"""Encode batches as the records of a capture file: pcapng or pcap, nanoseconds both."""

import struct
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from training.draws import IntArray
from training.simulate.batch import Batch
from training.simulate.frames import FrameEncoder, Frames
from training.simulate.vehicle import SocketModel, Vehicle

__all__ = ["CaptureFormat", "RecordEncoder"]

CaptureFormat = Literal["pcapng", "pcap"]

LINKTYPE_ETHERNET = 1
BLOCK_ALIGNMENT = 4
# Block types and option codes of draft-ietf-opsawg-pcapng.
SECTION_HEADER, INTERFACE_DESCRIPTION, ENHANCED_PACKET = 0x0A0D0D0A, 1, 6
BYTE_ORDER_MAGIC = 0x1A2B3C4D
IF_NAME, IF_TSRESOL, EPB_DROPCOUNT = 2, 9, 4
NANOSECONDS = 9
PACKET_HEADER_BYTES = 28
PACKET_TRAILER_BYTES = 4
# The drop count's code, length and value, and the end of the options.
DROPCOUNT_BYTES = 16
# Magic of draft-ietf-opsawg-pcap with nanosecond timestamps.
PCAP_NANOSECOND_MAGIC = 0xA1B23C4D
PCAP_HEADER_BYTES = 16


class RecordEncoder:
    """The bytes of a capture of one vehicle: `file_header`, then `records` of every batch in turn.

    Args:
        vehicle: whose batches come.
        sockets: `vehicle.sockets` and what faults add.
        capture_format: `pcapng`, in which packets tell how many the capture lost before them, or `pcap`.
    """

    def __init__(
        self, vehicle: Vehicle, sockets: Sequence[SocketModel], capture_format: CaptureFormat
    ) -> None:
        self._interface = vehicle.source.encode()
        self._pcapng = capture_format == "pcapng"
        before, after, align = (
            (PACKET_HEADER_BYTES, PACKET_TRAILER_BYTES, BLOCK_ALIGNMENT)
            if self._pcapng
            else (PCAP_HEADER_BYTES, 0, 2)
        )
        self._frames = FrameEncoder(vehicle, sockets, before, after, align)

    def file_header(self) -> bytes:
        """What stands before the first record."""
        if not self._pcapng:
            return struct.pack("<IHHiIII", PCAP_NANOSECOND_MAGIC, 2, 4, 0, 0, 0, LINKTYPE_ETHERNET)
        unknown_length = -1
        section = struct.pack("<IHHq", BYTE_ORDER_MAGIC, 1, 0, unknown_length)
        options = _option(IF_NAME, self._interface) + _option(IF_TSRESOL, bytes([NANOSECONDS])) + bytes(4)
        interface = struct.pack("<HHI", LINKTYPE_ETHERNET, 0, 0) + options
        return _block(SECTION_HEADER, section) + _block(INTERFACE_DESCRIPTION, interface)

    def records(self, batch: Batch) -> bytes:
        """One record a datagram."""
        return self._pcapng_records(batch) if self._pcapng else self._pcap_records(batch)

    def _pcapng_records(self, batch: Batch) -> bytes:
        room = np.where(batch.lost_before > 0, DROPCOUNT_BYTES, 0)
        frames = self._frames.encode(batch, room)
        padded = frames.length + -frames.length % BLOCK_ALIGNMENT
        block = PACKET_HEADER_BYTES + padded + room + PACKET_TRAILER_BYTES
        header = np.zeros((len(block), PACKET_HEADER_BYTES // 4), "<u4")
        header[:, 0] = ENHANCED_PACKET
        header[:, 1] = block
        header[:, 3] = batch.stamp_ns >> 32
        header[:, 4] = batch.stamp_ns & 0xFFFFFFFF
        header[:, 5] = header[:, 6] = frames.length
        _put(frames, frames.start - PACKET_HEADER_BYTES, header)
        _put(frames, frames.start + padded + room, block.astype("<u4")[:, None])
        lossy = np.flatnonzero(room)
        option = np.zeros((len(lossy), DROPCOUNT_BYTES // 4), "<u4")
        option[:, 0] = EPB_DROPCOUNT | 8 << 16
        option[:, 1] = batch.lost_before[lossy] & 0xFFFFFFFF
        option[:, 2] = batch.lost_before[lossy] >> 32
        _put(frames, (frames.start + padded)[lossy], option)
        return frames.data.tobytes()

    def _pcap_records(self, batch: Batch) -> bytes:
        frames = self._frames.encode(batch)
        header = np.zeros((len(frames.start), PCAP_HEADER_BYTES // 4), "<u4")
        header[:, 0], header[:, 1] = np.divmod(batch.stamp_ns, 1_000_000_000)
        header[:, 2] = header[:, 3] = frames.length
        _put(frames, frames.start - PCAP_HEADER_BYTES, header)
        return frames.data.tobytes()


def _put(frames: Frames, at: IntArray, words: npt.NDArray[np.uint32]) -> None:
    """Write a row of 32-bit words at each place."""
    frames.data[at[:, None] + np.arange(4 * words.shape[1])] = words.view(np.uint8)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % BLOCK_ALIGNMENT)


def _block(block_type: int, body: bytes) -> bytes:
    length = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", block_type) + length + body + length
