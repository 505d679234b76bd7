"""Puts fragmented IP packets together again, in bounded memory and bounded capture time."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable

from ecustream.decode.ip import End, Fragment

__all__ = ["FRAGMENT_TIMEOUT_NS", "MAX_BYTES", "MAX_PACKETS", "Fragments"]

FRAGMENT_TIMEOUT_NS = 30_000_000_000
MAX_PACKETS = 256
MAX_BYTES = 4 << 20
_PIECE_OVERHEAD = 128
"""What Python keeps beside the bytes of a piece, so that many small pieces count for what they cost."""


class _Unfinished:
    """A packet of which pieces are missing; `pieces` is sorted by offset."""

    __slots__ = ("contradicted", "cost", "first_ns", "frames", "pieces", "protocol", "received", "total")

    def __init__(self, first_ns: int) -> None:
        self.first_ns = first_ns
        self.pieces: list[tuple[int, bytes]] = []
        self.frames = 0
        self.received = 0
        self.cost = 0
        self.total: int | None = None
        self.protocol = 0
        self.contradicted = False

    def fits(self, offset: int, payload: bytes, more: bool) -> bool:
        """Whether the piece overlaps no other and agrees on where the packet ends."""
        end = offset + len(payload)
        at = bisect_left(self.pieces, (offset, b""))
        if at and self.pieces[at - 1][0] + len(self.pieces[at - 1][1]) > offset:
            return False
        if at < len(self.pieces) and (not more or self.pieces[at][0] < end):
            return False
        return self.total is None or (more and end <= self.total)


class Fragments:
    """Reassembly of IPv4 and IPv6 packets (RFC 791, RFC 8200 section 4.5).

    Every frame that is added ends once: with its packet when `add` returns it (the caller ends those),
    else in `ends` as `unreadable{fragment_timeout}` after 30 s of capture time,
    `unreadable{fragment_overlap}` where pieces contradict each other (RFC 5722: then the whole packet
    goes, later pieces too), `unreadable{fragment_too_many}` where the bounds are reached (the oldest
    packet goes), `unreadable{fragment_incomplete}` at the end of the input, and
    `filtered{fragment_duplicate}` for the same piece again.

    Args:
        ends: where frames that end here are counted.
    """

    def __init__(self, ends: Counter[End]) -> None:
        self._ends = ends
        self._packets: dict[Hashable, _Unfinished] = {}
        self._cost = 0
        self._now_ns = 0

    def __len__(self) -> int:
        return len(self._packets)

    def add(
        self, key: Hashable, time_ns: int, fragment: Fragment, protocol: int, payload: bytes
    ) -> tuple[bytes, int, int] | None:
        """Take one piece of the packet `key`.

        Returns:
            Payload, protocol and number of frames of the packet that this piece completes, or None.
        """
        self.expire(time_ns)
        cost = len(payload) + _PIECE_OVERHEAD
        while self._cost + cost > MAX_BYTES:
            self._give_up_oldest()
        packet = self._packets.get(key)
        if packet is None:
            if len(self._packets) >= MAX_PACKETS:
                self._give_up_oldest()
            packet = self._packets[key] = _Unfinished(self._now_ns)
        piece = (fragment.offset, payload)
        if packet.contradicted:
            packet.frames += 1
            return None
        at = bisect_left(packet.pieces, piece)
        if packet.pieces[at : at + 1] == [piece]:
            self._ends[End("filtered", "fragment_duplicate")] += 1
            return None
        packet.frames += 1
        if not packet.fits(fragment.offset, payload, fragment.more):
            self._cost -= packet.cost
            packet.contradicted = True
            packet.cost = 0
            packet.pieces.clear()
            return None
        packet.pieces.insert(at, piece)
        packet.received += len(payload)
        packet.cost += cost
        self._cost += cost
        if fragment.offset == 0:
            packet.protocol = protocol
        if not fragment.more:
            packet.total = fragment.offset + len(payload)
        if packet.received != packet.total:
            return None
        del self._packets[key]
        self._cost -= packet.cost
        return b"".join([data for _, data in packet.pieces]), packet.protocol, packet.frames

    def expire(self, time_ns: int) -> None:
        """Give up packets whose first piece is older than the timeout at capture time `time_ns`."""
        self._now_ns = max(self._now_ns, time_ns)
        limit = self._now_ns - FRAGMENT_TIMEOUT_NS
        while self._packets:
            key, packet = next(iter(self._packets.items()))
            if packet.first_ns >= limit:
                return
            self._give_up(key, "fragment_timeout")

    def flush(self) -> None:
        """Give up all packets: nothing more will come."""
        for key in list(self._packets):
            self._give_up(key, "fragment_incomplete")

    def _give_up_oldest(self) -> None:
        self._give_up(next(iter(self._packets)), "fragment_too_many")

    def _give_up(self, key: Hashable, reason: str) -> None:
        packet = self._packets.pop(key)
        self._cost -= packet.cost
        self._ends[End("unreadable", "fragment_overlap" if packet.contradicted else reason)] += packet.frames
