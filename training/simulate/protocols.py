"""Messages of SOME/IP service discovery and of gPTP, as far as they are constant."""

import ipaddress
import struct
from collections.abc import Sequence

__all__ = [
    "FOLLOW_UP_BYTES",
    "SYNC_BYTES",
    "follow_up_message",
    "offer_message",
    "sync_message",
]

SOMEIP_VERSION = 1
NOTIFICATION = 0x02
# Reboot and unicast flag of PRS_SOMEIPSD; reboot stays set until the session id has wrapped.
SD_FLAGS = 0xC0
OFFER_SERVICE = 1
OFFER_TTL_S = 3
IPV4_ENDPOINT, IPV6_ENDPOINT = 0x04, 0x06
UDP = 17

# IEEE 802.1AS-2011, tables 10-4 to 10-10 and 11-5 to 11-10.
SYNC_BYTES, FOLLOW_UP_BYTES = 44, 76
SYNC, FOLLOW_UP = 0x0, 0x8
TRANSPORT_SPECIFIC = 1
PTP_VERSION = 2
TWO_STEP, PTP_TIMESCALE = 0x0200, 0x0008
SYNC_CONTROL, FOLLOW_UP_CONTROL = 0, 2
LOG_INTERVAL_125_MS = -3
PORT = 1
ORGANIZATION_EXTENSION = 3
FOLLOW_UP_INFORMATION = bytes.fromhex("0080c2000001")


def offer_message(services: Sequence[tuple[int, int]], address: str, port: int) -> bytes:
    """What follows id and length of a SOME/IP-SD message that offers services: session id 0, even length.

    Args:
        services: service and instance id of each.
        address: IPv6 or IPv4 address at which all of them are.
        port: UDP port there.
    """
    header = struct.pack(">HHBBBB", 0, 0, SOMEIP_VERSION, SOMEIP_VERSION, NOTIFICATION, 0)
    entries = b"".join(
        # One option run, of one option, the first; major version 1, minor version 0.
        struct.pack(">BBBBHHII", OFFER_SERVICE, 0, 0, 1 << 4, service, instance, 1 << 24 | OFFER_TTL_S, 0)
        for service, instance in services
    )
    packed = ipaddress.ip_address(address).packed
    kind = IPV4_ENDPOINT if len(packed) == 4 else IPV6_ENDPOINT
    endpoint = b"\0" + packed + struct.pack(">BBH", 0, UDP, port)
    option = struct.pack(">HB", len(endpoint), kind) + endpoint
    return (
        header
        + struct.pack(">BxxxI", SD_FLAGS, len(entries))
        + entries
        + struct.pack(">I", len(option))
        + option
    )


def sync_message(mac: str) -> bytes:
    """A two-step Sync of the ECU with this MAC address; sequence id 0."""
    header = _ptp_header(SYNC, SYNC_BYTES, TWO_STEP | PTP_TIMESCALE, SYNC_CONTROL, mac)
    return header + bytes(SYNC_BYTES - len(header))


def follow_up_message(mac: str) -> bytes:
    """The Follow_Up to a Sync with an information TLV; sequence id and precise origin timestamp 0."""
    header = _ptp_header(FOLLOW_UP, FOLLOW_UP_BYTES, PTP_TIMESCALE, FOLLOW_UP_CONTROL, mac)
    timestamp = bytes(10)
    rates = bytes(22)
    tlv = struct.pack(">HH", ORGANIZATION_EXTENSION, len(FOLLOW_UP_INFORMATION) + len(rates))
    return header + timestamp + tlv + FOLLOW_UP_INFORMATION + rates


def _ptp_header(message_type: int, length: int, flags: int, control: int, mac: str) -> bytes:
    eui_48 = bytes.fromhex(mac.replace(":", ""))
    identity = eui_48[:3] + b"\xff\xfe" + eui_48[3:] + struct.pack(">H", PORT)
    start = struct.pack(">BBHBxH12x", TRANSPORT_SPECIFIC << 4 | message_type, PTP_VERSION, length, 0, flags)
    return start + identity + struct.pack(">HBb", 0, control, LOG_INTERVAL_125_MS)
