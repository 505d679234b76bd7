"""Frames of one network interface by scapy's live socket, where there is no AF_PACKET."""

import socket
from typing import Any

from ecustream.capture.frame_source import Taken
from ecustream.capture.packet_filter import NOTHING, UDP_FRAMES, Instruction, passes
from ecustream.errors import ConfigError
from ecustream.traffic import Frame

__all__ = ["ScapySocket"]

_BATCH = 256
_MOST_HELD = 4096
"""More frames than the socket's buffer has room for."""
_SOL_PACKET, _IGNORE_OUTGOING = 263, 23
_ETHERNET = 1


class ScapySocket:
    """What `PacketRing` does, slowly and without a count of what was dropped.

    It needs the extra `train`, and whatever scapy needs on the system: libpcap, or Npcap on Windows.

    Args:
        name: of the interface.
        promiscuous: whether also frames for others are taken.
        outgoing: whether also frames that this machine sends are taken; only Linux can leave them out, and
            does so on the loopback interface, where each would come twice.

    Attributes:
        limits: see `FrameSource`.
        packets: frames that came so far.

    Raises:
        ConfigError: scapy is not installed, there is no right to capture, or it is no Ethernet interface.
        OSError: there is no such interface any more, or it is down.
    """

    def __init__(self, name: str, *, promiscuous: bool = True, outgoing: bool = True) -> None:
        self.limits = (
            "scapy captures: it cannot tell how many frames were dropped, its buffer holds 64 KiB, times are "
            "rounded to 0.2 µs, and it keeps up with some 1,500 frames/s"
        )
        self.packets = 0
        self._program: tuple[Instruction, ...] = UDP_FRAMES
        self._rest: list[tuple[float, bytes]] = []
        self._troubled = self._failed = False
        self._socket = _opened(name, promiscuous)
        # On Linux the kernel can be asked more than scapy asks it.
        wire = getattr(self._socket, "ins", None)
        packets = hasattr(socket, "AF_PACKET") and isinstance(wire, socket.socket)
        self._wire: socket.socket | None = wire if packets else None
        try:
            self._prepare(name, outgoing=outgoing)
        except BaseException:
            self._socket.close()
            raise

    def _prepare(self, name: str, *, outgoing: bool) -> None:
        from scapy.config import conf

        if conf.l2types.layer2num.get(self._socket.LL) != _ETHERNET:
            raise ConfigError(f"interface {name} is no Ethernet interface")
        loopback = name == conf.loopback_name
        if self._wire is not None:
            if loopback or not outgoing:
                self._wire.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        elif not outgoing:
            raise ConfigError("capture.outgoing = false needs Linux: scapy cannot leave own frames out here")

    @property
    def is_bound(self) -> bool:
        """See `FrameSource`; where the system cannot be asked, no longer after the first error."""
        return not self._failed if self._wire is None else bool(self._wire.getsockname()[0])

    def start(self) -> None:
        """See `FrameSource`."""
        # It has captured since it was made.
        self._received(_MOST_HELD)

    def finish(self) -> None:
        """See `FrameSource`."""
        self._rest = self._received(_MOST_HELD)
        self._program = NOTHING

    def wait(self, timeout_ms: int) -> bool:
        """See `FrameSource`."""
        if not self._troubled and not self._rest:
            self._is_ready(timeout_ms / 1e3)
        troubled, self._troubled = self._troubled, False
        return troubled

    def frames(self, number: int, bus: str) -> Taken:
        """See `FrameSource`."""
        rest, self._rest = self._rest, []
        received = rest if self._program is NOTHING else self._received(_BATCH)
        frames = [
            Frame(number + i, round(time_s * 1e9), bus, _ETHERNET, data, len(data))
            for i, (time_s, data) in enumerate(received)
        ]
        self.packets += len(frames)
        return Taken(frames, [], len(received) < _BATCH)

    def overdue_loss(self) -> int:
        """0: it does not know."""
        return 0

    def left_dropped(self) -> int:
        """0: it does not know."""
        return 0

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def _received(self, most: int) -> list[tuple[float, bytes]]:
        """Time (s) and bytes of the frames that are there, at most so many, those that are wanted."""
        received: list[tuple[float, bytes]] = []
        for _ in range(most):
            if not self._is_ready(0):
                break
            try:
                _, data, time_s = self._socket.recv_raw()
            except OSError:
                self._troubled = self._failed = True
                break
            if data and passes(self._program, data):
                received.append((time_s, data))
        return received

    def _is_ready(self, timeout_s: float) -> bool:
        try:
            return bool(self._socket.select([self._socket], timeout_s))
        except OSError:
            self._troubled = self._failed = True
            return False


def _opened(name: str, promiscuous: bool) -> Any:
    """The socket that scapy has for this system."""
    try:
        from scapy.all import conf
        from scapy.error import Scapy_Exception
    except ImportError:
        raise ConfigError(
            f"interface {name}: capturing without AF_PACKET needs scapy: pip install 'ecustream[train]'"
        ) from None
    # It knows the interfaces that there were when it was imported.
    conf.ifaces.reload()
    try:
        return conf.L2listen(iface=name, promisc=promiscuous)
    except PermissionError:
        raise ConfigError(f"interface {name}: there is no right to capture; ask as administrator") from None
    except Scapy_Exception as error:
        raise ConfigError(f"interface {name}: scapy cannot capture there: {error}") from None
