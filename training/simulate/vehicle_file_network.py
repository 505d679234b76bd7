"""Make the ECUs and sockets of a vehicle file's tables."""

import re
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from training.draws import Draws
from training.simulate.conventions import (
    ALL_NODES,
    DESTINATION_PORT,
    SOURCE_PORT,
    group_address,
    mac_address,
    node_address,
)
from training.simulate.vehicle import EcuModel, SocketModel
from training.simulate.vehicle_file_errors import RefusedError
from training.simulate.vehicle_file_tables import EcuTable, SocketTable
from training.simulate.vehicle_file_values import MS, PPM, US, address, check_unique, index_of, to_ns

__all__ = ["build_ecus", "build_sockets"]

FIRST_NODE, LAST_NODE = 0x10, 0xFE


def build_ecus(tables: list[EcuTable], seed: int) -> list[EcuModel]:
    """The ECUs; what their tables leave open is drawn with `seed`."""
    taken = {table.node for table in tables}
    free = iter(node for node in range(FIRST_NODE, LAST_NODE + 1) if node not in taken)
    ecus = []
    for index, table in enumerate(tables):
        node = table.node or next(free, None)
        if node is None:
            raise RefusedError(f"ecu[{index}]", f"all nodes from {FIRST_NODE} to {LAST_NODE} are taken")
        ecus.append(_build_ecu(table, node, seed, f"ecu[{index}]"))
    check_unique([str(ecu.node) for ecu in ecus], "ecu", "node")
    check_unique([ecu.mac for ecu in ecus], "ecu", "mac")
    return ecus


def _build_ecu(table: EcuTable, node: int, seed: int, key: str) -> EcuModel:
    raster_ns = to_ns(table.raster_ms, MS)
    draws = Draws("vehicle file", seed, "ecu", table.name)
    drawn = EcuModel(
        name=table.name,
        node=node,
        mac=mac_address(node) if table.mac is None else table.mac.lower(),
        raster_ns=raster_ns,
        anchor_ns=draws.integer(0, raster_ns - 1),
        drift_ppb=draws.integer(-100_000, 100_000),
        jitter_sigma_ns=draws.integer(5 * US, 100 * US),
        gap_ns=draws.integer(10 * US, 40 * US),
        gateway=table.gateway,
        wake_delay_ns=draws.integer(0, 300) * MS,
        start_delay_ns=draws.integer(80, 1_500) * MS,
    )
    given = {
        "anchor_ns": (table.anchor_ms, MS),
        "drift_ppb": (table.drift_ppm, PPM),
        "jitter_sigma_ns": (table.jitter_us, US),
        "gap_ns": (table.gap_us, US),
        "wake_delay_ns": (table.wake_delay_ms, MS),
        "start_delay_ns": (table.start_delay_ms, MS),
    }
    values: dict[str, Any] = {
        name: to_ns(value, unit) for name, (value, unit) in given.items() if value is not None
    }
    ecu = replace(drawn, **values)
    if ecu.anchor_ns >= raster_ns:
        raise RefusedError(f"{key}.anchor_ms", f"must be less than the raster of {table.raster_ms:g} ms")
    if not re.fullmatch(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}", ecu.mac):
        raise RefusedError(f"{key}.mac", f"{table.mac!r} is no unicast address like 02:00:5e:00:00:10")
    return ecu


def build_sockets(tables: list[SocketTable], names: list[str], ecus: list[EcuModel]) -> list[SocketModel]:
    """The sockets, which are called `names`."""
    owners: dict[SocketModel, str] = {}
    sockets = []
    for index, table in enumerate(tables):
        key = f"socket[{index}]"
        socket = _build_socket(table, ecus, key)
        # One flow, whatever it does with what it is given.
        owner = owners.setdefault(replace(socket, collect_ns=0, collection="queued"), names[index])
        if owner != names[index]:
            raise RefusedError(key, f"{owner} has the same sender, VLAN, addresses and ports")
        sockets.append(socket)
    return sockets


def _build_socket(table: SocketTable, ecus: list[EcuModel], key: str) -> SocketModel:
    ecu_names = [ecu.name for ecu in ecus]
    if table.ecu is None and len(ecus) > 1:
        raise RefusedError(f"{key}.ecu", f"is missing; there are {', '.join(ecu_names)}")
    ecu = 0 if table.ecu is None else index_of(table.ecu, ecu_names, f"{key}.ecu", "ecu")
    if table.layout == "gptp":
        given = (table.vlan, table.source, table.source_port, table.destination, table.destination_port)
        if any(value is not None for value in given) or table.collect_ms:
            raise RefusedError(key, "frames of gPTP have no VLAN, addresses or ports, and are not collected")
        return SocketModel(ecu, None, "", 0, "", 0, "gptp", collection=table.collection)
    source, destination = _addresses(table, ecus[ecu].node, key)
    return SocketModel(
        ecu=ecu,
        vlan=table.vlan,
        source=source,
        source_port=table.source_port or SOURCE_PORT,
        destination=destination,
        destination_port=table.destination_port or DESTINATION_PORT,
        layout=table.layout,
        collect_ns=to_ns(table.collect_ms, MS),
        collection=table.collection,
    )


def _addresses(table: SocketTable, node: int, key: str) -> tuple[str, str]:
    """Source and destination; what is left open is of the IP version of what is given."""
    is_ipv4 = "." in (table.source or table.destination or "")
    source = table.source or node_address(node, table.vlan, is_ipv4)
    destination = table.destination or group_address(ALL_NODES, table.vlan, is_ipv4)
    source, destination = address(source, f"{key}.source"), address(destination, f"{key}.destination")
    if ip_address(source).is_multicast:
        raise RefusedError(f"{key}.source", f"{source} is a multicast address, from which nothing can come")
    if ip_address(source).version != ip_address(destination).version:
        raise RefusedError(f"{key}.destination", f"{destination} is not of the same IP version as {source}")
    return source, destination
