"""A TPACKET_V3 ring on one network interface, mapped and read without copies in the kernel (packet(7))."""

import ctypes
import errno
import mmap
import select
import socket
import sys
import time
from pathlib import Path
from struct import pack, unpack

from ecustream.capture.frame_source import Taken
from ecustream.capture.overload import Overload
from ecustream.capture.packet_filter import NOTHING, UDP_FRAMES, Instruction, packed
from ecustream.capture.tpacket import BLOCK_STATUS_AT, block_length, frames_of
from ecustream.errors import ConfigError
from ecustream.traffic import Frame

__all__ = ["BLOCK_BYTES", "RETIRE_MS", "PacketRing"]

BLOCK_BYTES = 1 << 16
"""Room for a jumbo frame; no more, because a block that is given early takes as much as a full one."""
RETIRE_MS = 10
"""A block that is not full is handed over after so long, or twice that."""

_BATCH_BLOCKS = 8
_OVERDUE_NS = 200_000_000
_FRAME_BYTES = 2048
_SOL_PACKET = 263
_ADD_MEMBERSHIP, _RX_RING, _STATISTICS, _VERSION, _IGNORE_OUTGOING = 1, 5, 6, 10, 23
_TPACKET_V3 = 2
_MR_PROMISC, _MR_ALLMULTI = 1, 2
_SO_ATTACH_FILTER = 26
_ETH_P_ALL = 3
_ARPHRD_ETHER, _ARPHRD_LOOPBACK = 1, 772
_ETHERNET = 1
_KERNELS = bytes(4)
_NO_RIGHT = (
    "interface {name}: capturing needs the capability CAP_NET_RAW: start it by systemd with "
    "AmbientCapabilities=CAP_NET_RAW, or give it to the Python that runs this: "
    "`sudo setcap cap_net_raw=ep {python}`"
)


class PacketRing:
    """Frames of one interface in a ring of blocks that the kernel fills and this side gives back.

    It has its filter and its ring before it is bound to the interface, so that nothing else gets in. It is to
    be used by one thread. An interface that goes down and comes up again is captured on by itself; of one
    that was deleted nothing comes any more, and no error after the first one says so.

    Args:
        index: of the interface.
        name: for the sentences.
        ring_bytes: size of the ring, rounded to whole blocks.
        promiscuous: whether also frames for others are taken; multicast is in any case.
        outgoing: whether also frames that this machine sends are taken; never on the loopback interface,
            where each would come twice.

    Attributes:
        packets: frames that the kernel had for us so far, those that it dropped included.
        dropped: frames that it dropped, because the ring was full.

    Raises:
        ConfigError: there is no right to capture, no memory for the ring, or it is no Ethernet interface.
        OSError: there is no such interface any more.
    """

    def __init__(
        self, index: int, name: str, ring_bytes: int, *, promiscuous: bool = True, outgoing: bool = True
    ) -> None:
        self.limits = ""
        self.packets = 0
        self.dropped = 0
        self._index = index
        self._next = 0
        self._count = max(2, ring_bytes // BLOCK_BYTES)
        # By block: how many frames were dropped just before what the kernel will write there next.
        self._lost = [0] * self._count
        self._untold = 0
        self._took_ns = 0
        # The blocks just before the next one, so many, were read and not given back yet.
        self._held = 0
        self._overload = Overload()
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        except PermissionError:
            raise ConfigError(_NO_RIGHT.format(name=name, python=Path(sys.executable).resolve())) from None
        try:
            self._prepare(name, promiscuous=promiscuous, outgoing=outgoing)
        except BaseException:
            self._socket.close()
            raise
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def _prepare(self, name: str, *, promiscuous: bool, outgoing: bool) -> None:
        wire = self._socket
        # Bound without a protocol: it belongs to the interface and gets nothing.
        wire.bind((socket.if_indextoname(self._index), 0))
        hardware = wire.getsockname()[3]
        if hardware not in (_ARPHRD_ETHER, _ARPHRD_LOOPBACK):
            raise ConfigError(f"interface {name} is no Ethernet interface (hardware type {hardware})")
        self._filter(UDP_FRAMES)
        if hardware == _ARPHRD_LOOPBACK or not outgoing:
            wire.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        membership = _MR_PROMISC if promiscuous else _MR_ALLMULTI
        wire.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, pack("=iHH8s", self._index, membership, 0, b""))
        wire.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V3)
        size = self._count * BLOCK_BYTES
        request = (BLOCK_BYTES, self._count, _FRAME_BYTES, size // _FRAME_BYTES, RETIRE_MS, 0, 0)
        try:
            wire.setsockopt(_SOL_PACKET, _RX_RING, pack("=7I", *request))
            self._ring = mmap.mmap(wire.fileno(), size)
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
            raise ConfigError(
                f"interface {name}: no memory for a ring of {size >> 20} MiB; lower capture.ring_mib"
            ) from None

    @property
    def is_bound(self) -> bool:
        """See `FrameSource`: no longer once the interface was deleted, or moved to another namespace."""
        return bool(self._socket.getsockname()[0])

    def start(self) -> None:
        """Capture from now on.

        Raises:
            OSError: the interface is gone.
        """
        self._socket.bind((socket.if_indextoname(self._index), _ETH_P_ALL))

    def finish(self) -> None:
        """Capture no more; what the ring holds can still be taken, at most `2 * RETIRE_MS` from now."""
        self._filter(NOTHING)

    def wait(self, timeout_ms: int) -> bool:
        """Wait for frames, for `timeout_ms` at most; whether the interface went down or away meanwhile."""
        events = self._poll.poll(timeout_ms)
        if not events or not events[0][1] & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
            return False
        # Asking for the error takes it back; it says ENETDOWN also of an interface that was deleted.
        self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return True

    def frames(self, number: int, bus: str) -> Taken:
        """See `FrameSource`."""
        frames: list[Frame] = []
        losses: list[tuple[int, int]] = []
        blocks = self.take(_BATCH_BLOCKS)
        for lost, block in blocks:
            if lost:
                losses.append((number + len(frames), lost))
            frames += frames_of(block, number + len(frames), bus, _ETHERNET)
        return Taken(frames, losses, len(blocks) < _BATCH_BLOCKS, self._untold > 0)

    def take(self, max_blocks: int) -> list[tuple[int, bytes]]:
        """The blocks that are there, oldest first: how many frames were dropped before it, and its bytes.

        Returns:
            At most `max_blocks`; fewer mean that there are no more.
        """
        ring = self._ring
        blocks: list[tuple[int, bytes]] = []
        while len(blocks) < max_blocks and self._held < self._count:
            at = self._next * BLOCK_BYTES
            status = at + BLOCK_STATUS_AT
            if ring[status : status + 4] == _KERNELS:
                break
            block = ring[at : at + block_length(ring, at)]
            blocks.append((self._lost[self._next], block))
            self._untold -= self._lost[self._next]
            self._lost[self._next] = 0
            self._next = (self._next + 1) % self._count
            self._held += 1
            if not self._overload.holding:
                self._note_drops(self._next - 1)
            if not self._overload.holding:
                self._give_back()
        now_ns = time.monotonic_ns()
        if blocks:
            self._took_ns = now_ns
        if self._overload.holding and (len(blocks) < max_blocks or self._overload.is_due(now_ns)):
            # The kernel waits for the oldest one: what it dropped comes before what it will write there.
            oldest = (self._next - self._held) % self._count
            self._note_drops(oldest)
            self._give_back()
            self._overload.release()
        return blocks

    def overdue_loss(self) -> int:
        """See `FrameSource`."""
        if not self._untold or time.monotonic_ns() - self._took_ns < _OVERDUE_NS:
            return 0
        return self._forget_untold()

    def _note_drops(self, block: int) -> None:
        # The kernel drops only while it waits for this very block; what it writes there comes after that.
        drops = self.count_dropped()
        if drops:
            self._lost[block] += drops
            self._untold += drops
            self._overload.lost(time.monotonic_ns())

    def _give_back(self) -> None:
        """Give back what is held, the oldest at last, so that nothing is dropped after that one."""
        for back in range(1, self._held + 1):
            status = (self._next - back) % self._count * BLOCK_BYTES + BLOCK_STATUS_AT
            self._ring[status : status + 4] = _KERNELS
        self._held = 0

    def count_dropped(self) -> int:
        """How many frames the kernel dropped since this was asked last; its counters begin anew then."""
        packets, drops, _ = unpack("=3I", self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 12))
        self.packets += packets
        self.dropped += drops
        return int(drops)

    def left_dropped(self) -> int:
        """How many dropped frames were told before no block by now; for the end."""
        return self._forget_untold() + self.count_dropped()

    def close(self) -> None:
        """Give the ring back."""
        self._ring.close()
        self._socket.close()

    def _forget_untold(self) -> int:
        untold = self._untold
        self._lost = [0] * self._count
        self._untold = 0
        return untold

    def _filter(self, program: tuple[Instruction, ...]) -> None:
        code = ctypes.create_string_buffer(packed(program))
        self._socket.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, pack("@HP", len(program), ctypes.addressof(code))
        )
