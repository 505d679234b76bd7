"""Looks at an interface with ip, switches its offloads as `ethtool -K` does, and sends what they merge."""

import json
import socket
import subprocess
from struct import pack
from typing import Any

from ecustream.doctor.facts.card import ask_driver, feature_names
from tests.namespaces import ip

_SFEATURES = 0x3B
_UDP_SEGMENT = 103
_BIND_TO_DEVICE = 25
DATAGRAMS, BYTES = 10, 16


def shown(name: str) -> dict[str, Any]:
    """What ip shows of an interface."""
    out = subprocess.check_output(["ip", "-json", "-stats", "-stats", "-details", "link", "show", name])
    first: dict[str, Any] = json.loads(out)[0]
    return first


def switch(interface: str, feature: str, on: bool) -> None:
    """ETHTOOL_SFEATURES of linux/ethtool.h: for 32 offloads each, which to set, and to what."""
    names = feature_names(interface)
    number = names.index(feature)
    words = [(0, 0)] * ((len(names) + 31) // 32)
    words[number // 32] = (1 << number % 32, (1 << number % 32) if on else 0)
    command = pack("=II", _SFEATURES, len(words)) + b"".join(pack("=II", *word) for word in words)
    ask_driver(interface, command, len(command))


def addresses(mac: str) -> None:
    """Let a0 send IP to b0, whose hardware address is `mac`."""
    ip("addr add 10.9.0.1/24 dev a0")
    ip("addr add 10.9.0.2/24 dev b0")
    ip(f"neigh add 10.9.0.2 lladdr {mac} dev a0")


def send_segmented() -> None:
    """Ten datagrams of 16 bytes in one call, from a0 to b0: the kernel or the card cuts them apart."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, BYTES)
        sender.setsockopt(socket.SOL_SOCKET, _BIND_TO_DEVICE, b"a0\0")
        sender.sendto(bytes(DATAGRAMS * BYTES), ("10.9.0.2", 42557))
