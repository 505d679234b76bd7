"""The streams of a run: what a line belongs to, and when the same PDU was there last.

The key says what "the same PDU" means. It is stored in bundles, so its form is a contract:

    stream  `name|source|src:sport|dst:dport`, IPv6 addresses in brackets, for example
            `ESC_03|ETH1|[fd53:7cb8:383:3::48]:42994|[ff14::3:7f]:42557`. The default: a gateway that
            repeats a PDU for another receiver does not disturb its delta time. The VLAN is not part of
            it, so that a CSV trace, which has no VLAN column, gives the keys of the capture it came from.
    name    the PDU's name alone, as in the paper.
"""

from ecustream.errors import ConfigError
from ecustream.ledger import Ledger
from ecustream.traffic import Stream

__all__ = ["CLOCK_STEP_NS", "KEY_MODES", "MAX_STREAMS", "Clock", "Streams", "endpoint"]

KEY_MODES = ("stream", "name")
MAX_STREAMS = 65_536
"""More streams than any vehicle has; what comes beyond them is damage or an attack, and is counted."""
CLOCK_STEP_NS = 1_000_000_000
"""Farther back than this is a clock that was set, not lines that overtook each other."""


class Clock:
    """When the PDU of one key was there last; `last_ns` is None before the first line."""

    __slots__ = ("last_ns",)

    def __init__(self) -> None:
        self.last_ns: int | None = None

    def back(self, time_ns: int, ledger: Ledger) -> int:
        """The delta of a line that is older than the last one: 0, and the time stays at the maximum.

        Where the clock itself was set back the new time counts from here on; otherwise every delta
        would be 0 until the old time comes round again.
        """
        ledger.note("time_backwards")
        if self.last_ns is not None and self.last_ns - time_ns > CLOCK_STEP_NS:
            ledger.note("clock_set_back")
            self.last_ns = time_ns
        return 0


def endpoint(address: str, port: int) -> str:
    """Address and port as one text, IPv6 in brackets: `10.0.0.1:42557`, `[ff14::3:7f]:42557`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Streams:
    """Interns streams and the clocks of their keys.

    Args:
        key: a key mode, see the module's docstring.

    Raises:
        ConfigError: there is no such key mode.
    """

    def __init__(self, key: str = "stream") -> None:
        if key not in KEY_MODES:
            raise ConfigError(f"the key of a PDU is {key!r}, which is none of {', '.join(KEY_MODES)}")
        self._by_name = key == "name"
        self._streams: dict[tuple[str, str, str, int, str, int, int | None], Stream] = {}
        self._clocks: dict[str, Clock] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def forget(self) -> None:
        """Forget when every PDU was there last."""
        for clock in self._clocks.values():
            clock.last_ns = None

    def has(
        self, name: str, source: str, src: str, sport: int, dst: str, dport: int, pdu_id: int | None
    ) -> bool:
        """Whether there is a stream with these fields."""
        return (name, source, src, sport, dst, dport, pdu_id) in self._streams

    def open(
        self, name: str, source: str, src: str, sport: int, dst: str, dport: int, pdu_id: int | None = None
    ) -> tuple[Stream, Clock] | None:
        """The stream with these fields and the clock of its key; None when there are `MAX_STREAMS`."""
        fields = (name, source, src, sport, dst, dport, pdu_id)
        stream = self._streams.get(fields)
        if stream is None:
            if len(self._streams) >= MAX_STREAMS:
                return None
            key = name if self._by_name else f"{name}|{source}|{endpoint(src, sport)}|{endpoint(dst, dport)}"
            stream = self._streams[fields] = Stream(len(self._streams), key, *fields)
        return stream, self._clocks.setdefault(stream.key, Clock())
