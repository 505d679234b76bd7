"""The kernel's filter in front of a live capture: UDP over IPv4 or IPv6, with and without VLAN tags.

What it turns away costs no room in the ring and no time, and is in no count. Classic BPF in the form of
linux/filter.h. The kernel takes the outer VLAN tag out of a received frame before it filters; frames that
this machine sends, and inner tags, still have theirs. So the program looks for up to two tags in the data,
and neither case is missed, as it would be with the expression `udp` on tagged frames of a file.
"""

from collections.abc import Sequence
from struct import pack

__all__ = ["LOGGER_TYPES", "NOTHING", "UDP_FRAMES", "Instruction", "packed", "passes"]

Instruction = tuple[int, int, int, int]
"""Operation, jump if true, jump if false, operand."""

_LOAD_HALF, _LOAD_BYTE_X = 0x28, 0x50
_LOAD_X, _JUMP_EQUAL, _RETURN = 0x01, 0x15, 0x06

_WHOLE_FRAME = 0x40000
_TAGS = (0x8100, 0x88A8, 0x9100)
_IPV4, _IPV6 = 0x0800, 0x86DD
_UDP = 17
_BEFORE_UDP = (0, 43, 44, 51, 60)
"""IPv6 extension headers after which UDP may come, the fragment header among them."""
LOGGER_TYPES = (0x99FE, 0x2090)
"""EtherTypes of loggers that pack recorded frames into their own: TECMP and PLP, and CMP."""


def _udp_frames() -> tuple[Instruction, ...]:
    accept, drop = "accept", "drop"
    # (label or None, operation, true, false, operand), jumps by label; None is the next instruction.
    code: list[tuple[str | None, int, str | None, str | None, int]] = []
    for tags in range(3):
        at = 4 * tags
        code.append((f"tags{tags}", _LOAD_HALF, None, None, 12 + at))
        code += [(None, _JUMP_EQUAL, accept, None, ethertype) for ethertype in LOGGER_TYPES]
        if tags < 2:
            code += [(None, _JUMP_EQUAL, f"tags{tags + 1}", None, tag) for tag in _TAGS]
        code.append((None, _LOAD_X, None, None, at))
        code.append((None, _JUMP_EQUAL, "ipv4", None, _IPV4))
        code.append((None, _JUMP_EQUAL, "ipv6", drop, _IPV6))
    code.append(("ipv4", _LOAD_BYTE_X, None, None, 14 + 9))
    code.append((None, _JUMP_EQUAL, accept, drop, _UDP))
    code.append(("ipv6", _LOAD_BYTE_X, None, None, 14 + 6))
    code += [(None, _JUMP_EQUAL, accept, None, header) for header in (_UDP, *_BEFORE_UDP)]
    code.append((drop, _RETURN, None, None, 0))
    code.append((accept, _RETURN, None, None, _WHOLE_FRAME))
    places = {label: place for place, (label, *_) in enumerate(code) if label is not None}
    return tuple(
        (
            operation,
            0 if true is None else places[true] - place - 1,
            0 if false is None else places[false] - place - 1,
            operand,
        )
        for place, (_, operation, true, false, operand) in enumerate(code)
    )


UDP_FRAMES = _udp_frames()
"""Lets UDP pass, fragments of it and loggers' own frames."""
NOTHING: tuple[Instruction, ...] = ((_RETURN, 0, 0, 0),)
"""Lets nothing pass: the end of a capture, at which the ring still holds what came before."""


def packed(program: Sequence[Instruction]) -> bytes:
    """A program as an array of `struct sock_filter`."""
    return b"".join(pack("=HBBI", *instruction) for instruction in program)


def passes(program: Sequence[Instruction], data: bytes) -> bool:
    """Whether a frame passes, where there is no kernel to ask; what reads past its end does not."""
    place = accumulator = index = 0
    while True:
        operation, true, false, operand = program[place]
        place += 1
        if operation == _RETURN:
            return operand > 0
        if operation == _LOAD_X:
            index = operand
        elif operation == _JUMP_EQUAL:
            place += true if accumulator == operand else false
        else:
            at, width = (operand, 2) if operation == _LOAD_HALF else (operand + index, 1)
            if at + width > len(data):
                return False
            accumulator = int.from_bytes(data[at : at + width], "big")
