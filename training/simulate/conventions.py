"""What is usual on a vehicle's Ethernet: addresses, ports, ids, cycles, and what does not wait for others."""

from ipaddress import ip_address

from training.simulate.protocols import FOLLOW_UP_BYTES, SYNC_BYTES
from training.simulate.vehicle import Role

__all__ = [
    "ALL_NODES",
    "DESTINATION_PORT",
    "GPTP_CYCLE_NS",
    "GPTP_LENGTHS",
    "SD_ID",
    "SOURCE_PORT",
    "group_address",
    "is_trigger",
    "mac_address",
    "node_address",
]

MS = 1_000_000

SOURCE_PORT, DESTINATION_PORT = 42994, 42557
SD_ID = 0xFFFF8100
# Last part of the multicast address of everyone.
ALL_NODES = 0x7F
GPTP_CYCLE_NS = 125 * MS
GPTP_LENGTHS: dict[Role, int] = {"sync": SYNC_BYTES, "follow_up": FOLLOW_UP_BYTES}
TRIGGER_BELOW_NS = 10 * MS


def mac_address(node: int) -> str:
    """The MAC address of a node."""
    return f"02:00:5e:00:00:{node:02x}"


def node_address(node: int, vlan: int | None, is_ipv4: bool = False) -> str:
    """The address of a node on a VLAN."""
    vlan = vlan or 0
    # VLANs above 255 take two parts of an IPv4 address.
    text = f"10.{vlan >> 8}.{vlan & 255}.{node}" if is_ipv4 else f"fd53:7cb8:383:{vlan}::{node:x}"
    return str(ip_address(text))


def group_address(group: int, vlan: int | None, is_ipv4: bool = False) -> str:
    """The multicast address of a group of nodes on a VLAN."""
    return f"239.192.255.{group}" if is_ipv4 else f"ff14::{vlan or 0}:{group:x}"


def is_trigger(role: Role, cycle_ns: int | None) -> bool:
    """Whether a PDU leaves at once: events, fast ones, and all that is not of COM."""
    return role != "com" or cycle_ns is None or cycle_ns < TRIGGER_BELOW_NS
