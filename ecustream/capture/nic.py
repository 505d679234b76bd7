"""What the system says of its network interfaces."""

import socket
import sys
from contextlib import suppress
from struct import pack, unpack_from

__all__ = ["index_of", "is_up", "name_of", "names"]

# netdevice(7); on the BSDs _IOWR('i', 17, struct ifreq).
_SIOCGIFFLAGS = 0x8913 if sys.platform == "linux" else 0xC0206911
_IFF_UP = 0x1


def index_of(name: str) -> int | None:
    """The index of the interface that has this name; None where none has."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None


def name_of(index: int) -> str | None:
    """The name of the interface with this index; None where it is gone."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return None


def names() -> list[str]:
    """The names of all interfaces."""
    return [name for _, name in socket.if_nameindex()]


def is_up(name: str) -> bool:
    """Whether an interface is switched on; where the system cannot be asked, it is taken for that."""
    if sys.platform == "win32":
        return True
    from fcntl import ioctl

    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as any_socket:
        reply = ioctl(any_socket, _SIOCGIFFLAGS, pack("16s24x", name.encode()))
        return bool(unpack_from("=H", reply, 16)[0] & _IFF_UP)
    return False
