"""Takes apart the blocks of a TPACKET_V3 ring (linux/if_packet.h)."""

from mmap import mmap
from struct import Struct

from ecustream.traffic import Frame

__all__ = ["BLOCK_STATUS_AT", "block_length", "frames_of"]

BLOCK_STATUS_AT = 8
"""Where a block says whose it is: 0 the kernel's, else ours."""

_VLAN_VALID = 1 << 4
_VLAN_TPID_VALID = 1 << 6
_DEFAULT_TPID = 0x8100
_MAC_ADDRESSES = 12

# The block's header: packets in it, offset of the first, bytes used.
_block_header = Struct("=III").unpack_from
_BLOCK_HEADER_AT = 12
_block_length = Struct("=I").unpack_from
_BLOCK_LENGTH_AT = 20
# A packet's header: offset of the next, s, ns, captured and real length, status, offset of the frame;
# after the hash, the VLAN tag that the kernel took out.
_packet_header = Struct("=6IH6xIH").unpack_from
_vlan_tag = Struct(">HH").pack


def block_length(ring: mmap | bytes, at: int) -> int:
    """How many bytes of the block at `at` are in use."""
    length: int = _block_length(ring, at + _BLOCK_LENGTH_AT)[0]
    return length


def frames_of(block: bytes, number: int, source: str, linktype: int) -> list[Frame]:
    """The frames of a block as they were on the wire.

    The kernel takes the outer VLAN tag out of a frame that it receives and tells it beside the frame; it is
    put back, so that `wire_length` has four bytes more than the ring says. An inner tag stays in the frame.

    Args:
        block: the bytes in use of one block.
        number: of its first frame.
        source: see `Frame`.
        linktype: see `Frame`.
    """
    frames: list[Frame] = []
    count, at, _ = _block_header(block, _BLOCK_HEADER_AT)
    for counted in range(number, number + count):
        step, seconds, ns, captured, length, status, mac, tci, tpid = _packet_header(block, at)
        start = at + mac
        end = start + captured
        if status & _VLAN_VALID:
            tag = _vlan_tag(tpid if status & _VLAN_TPID_VALID else _DEFAULT_TPID, tci)
            split = start + _MAC_ADDRESSES
            data = block[start:split] + tag + block[split:end]
            length += 4
        else:
            data = block[start:end]
        frames.append(Frame(counted, seconds * 1_000_000_000 + ns, source, linktype, data, length))
        at += step
    return frames
