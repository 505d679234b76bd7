"""Sends UDP frames at a steady rate from a process of its own, and says exactly how many went."""

import argparse
import ctypes
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from struct import pack
from typing import NamedTuple

import numpy as np

__all__ = ["MIN_FRAME_BYTES", "Sent", "frame_of", "send_paced", "sent_by", "start_paced"]

MIN_FRAME_BYTES = 58
"""Ethernet, IPv4, UDP, and one PDU of 8 bytes."""

_HEADERS = 42
_PDU_BYTES = 16
_PDUS = 3
_BATCH = 64
_PAUSE_S, _LONG_PAUSE_S = 2e-4, 0.05
# So much less than the wanted rate can be made up for at the end.
_BEHIND_S = 0.1
_SOL_PACKET, _QDISC_BYPASS = 263, 20


class Sent(NamedTuple):
    """What a sender did.

    Attributes:
        frames: how many the kernel took and handed to the other end.
        seconds: from the first to the last of them.
        refused: how often it took none, because its queue to the other end was full; they were sent again.
    """

    frames: int
    seconds: float
    refused: int = 0

    @property
    def frames_per_s(self) -> float:
        """The real rate."""
        return self.frames / self.seconds if self.seconds else 0.0


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Message(ctypes.Structure):
    """struct mmsghdr (sendmmsg(2))."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("iov", ctypes.c_void_p),
        ("iov_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("sent_bytes", ctypes.c_uint),
    )


def frame_of(frame_bytes: int, number: int = 0) -> bytes:
    """The frame that is sent: to UDP port 60000, with up to three PDUs (ids 0x101 to 0x103).

    Each has 8 bytes of payload; the last one takes what is left, and ends with `number` in 8 bytes.
    """
    if frame_bytes < MIN_FRAME_BYTES:
        raise ValueError(f"a frame has at least {MIN_FRAME_BYTES} bytes, not {frame_bytes}")
    room = frame_bytes - _HEADERS
    count = min(_PDUS, room // _PDU_BYTES)
    last = room - (count - 1) * _PDU_BYTES - 8
    lengths = [8] * (count - 1) + [last]
    pdus = b"".join(pack(">II", 0x101 + i, length) + bytes(length) for i, length in enumerate(lengths))
    udp = pack(">4H", 60000, 60000, 8 + room, 0)
    addresses = bytes([10, 0, 0, 1, 239, 0, 0, 1])
    ip = pack(">BBHHHBBH", 0x45, 0, 28 + room, 0, 0, 1, 17, 0) + addresses
    total = sum(int.from_bytes(ip[i : i + 2], "big") for i in range(0, 20, 2))
    total = (total & 0xFFFF) + (total >> 16)
    ip = ip[:10] + pack(">H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + ip[12:]
    ethernet = bytes.fromhex("01005e000001 020000000001 0800")
    return (ethernet + ip + udp + pdus)[:-8] + number.to_bytes(8, "big")


def send_paced(
    interface: str, frames_per_s: float, seconds: float, frame_bytes: int = 90, core: int | None = None
) -> Sent:
    """Send from a process of its own, in the network namespace of this thread, and wait until it is done.

    `frames_per_s * seconds` frames are due, each at its own instant, and go in batches of at most 64. A
    sender that cannot keep up stops when the time is over, with what it had sent by then.

    Args:
        interface: its name.
        frames_per_s: the wanted rate.
        seconds: how long.
        frame_bytes: of each frame, see `frame_of`; the numbers in them count from 0 without a gap.
        core: the CPU core that the process is bound to.
    """
    return sent_by(start_paced(interface, frames_per_s, seconds, frame_bytes, core))


def start_paced(
    interface: str, frames_per_s: float, seconds: float, frame_bytes: int = 90, core: int | None = None
) -> subprocess.Popen[str]:
    """As `send_paced`, but it goes on beside; a SIGTERM ends it early, and it still says what it sent."""
    command = [sys.executable, str(Path(__file__).resolve()), interface, repr(frames_per_s), repr(seconds)]
    command += ["--frame-bytes", str(frame_bytes)]
    if core is not None:
        command += ["--core", str(core)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def sent_by(process: subprocess.Popen[str]) -> Sent:
    """Wait for the end of a sender that was started; where the wait is interrupted, it is killed.

    Raises:
        RuntimeError: it failed; the text is what it said.
    """
    try:
        out, err = process.communicate()
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise RuntimeError(err.strip().rsplit("\n", 1)[-1])
    return Sent(**json.loads(out))


def _send(interface: str, frames_per_s: float, seconds: float, frame_bytes: int) -> Sent:
    """Send in this process."""
    frames = np.tile(np.frombuffer(frame_of(frame_bytes), np.uint8), (_BATCH, 1))
    numbers = np.arange(_BATCH, dtype=np.uint64)
    iovecs = (_Iovec * _BATCH)(*(_Iovec(frames[i].ctypes.data, frame_bytes) for i in range(_BATCH)))
    step = ctypes.sizeof(_Iovec)
    messages = (_Message * _BATCH)(
        *(_Message(iov=ctypes.addressof(iovecs) + i * step, iov_count=1) for i in range(_BATCH))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    total = round(frames_per_s * seconds)
    sent = refused = 0
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
        wire.bind((interface, 0))
        wire.setsockopt(_SOL_PACKET, _QDISC_BYPASS, 1)
        fileno = wire.fileno()
        start_s = end_s = time.perf_counter()
        while sent < total and not stopped:
            elapsed_s = time.perf_counter() - start_s
            if elapsed_s > seconds and total - sent > _BATCH + frames_per_s * _BEHIND_S:
                break
            due = min(total, int(elapsed_s * frames_per_s) + 1) - sent
            if due <= 0:
                until_next_s = sent / frames_per_s - elapsed_s
                time.sleep(min(max(_PAUSE_S, until_next_s), _LONG_PAUSE_S))
                continue
            count = min(due, _BATCH)
            frames[:count, -8:] = (
                (numbers[:count] + np.uint64(sent)).astype(">u8").view(np.uint8).reshape(-1, 8)
            )
            done = libc.sendmmsg(fileno, messages, count, 0)
            if done > 0:
                sent += done
                end_s = time.perf_counter()
            elif (error := ctypes.get_errno()) == errno.ENOBUFS:
                refused += 1
            elif error != errno.EINTR:
                raise OSError(error, os.strerror(error))
    return Sent(sent, end_s - start_s, refused)


def main() -> None:
    """Send as the arguments say, and print what was sent as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("interface")
    parser.add_argument("frames_per_s", type=float)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--frame-bytes", type=int, default=90)
    parser.add_argument("--core", type=int)
    given = parser.parse_args()
    if given.core is not None:
        os.sched_setaffinity(0, {given.core})
    sent = _send(given.interface, given.frames_per_s, given.seconds, given.frame_bytes)
    print(json.dumps(sent._asdict()))


if __name__ == "__main__":
    main()
