"""Vehicles as TOML files for people: references by name, units in keys, defaults for nearly everything."""

import tomllib
from pathlib import Path

import msgspec

from ecustream.errors import ConfigError
from training.simulate.vehicle import ModeModel, Vehicle
from training.simulate.vehicle_file_contents import check_lengths, fill_offers
from training.simulate.vehicle_file_errors import RefusedError, refusal
from training.simulate.vehicle_file_network import build_ecus, build_sockets
from training.simulate.vehicle_file_pdus import PduBuilder
from training.simulate.vehicle_file_tables import VehicleFile
from training.simulate.vehicle_file_toml import vehicle_toml
from training.simulate.vehicle_file_values import S, check_unique, to_ns

__all__ = ["load_vehicle", "vehicle_toml"]


def load_vehicle(path: Path, seed: int = 0) -> Vehicle:
    """Read a vehicle; `load_vehicle(path, vehicle.seed)` of what `vehicle_toml` wrote is the same vehicle.

    The file has `[[ecu]]`, `[[socket]]`, `[[mode]]` and `[[pdu]]` tables, and `[vehicle]` with its `name` and
    its capture's interface, `source`. Keys are the attributes of the models, with units (`cycle_ms`); times
    are rounded to nanoseconds. ECUs, sockets, modes and requests are referred to by name, and need no mention
    where there is one only. What is left open is drawn: anchors, drifts, jitter and delays of the ECUs, and
    phases, payloads and signals of the PDUs. A socket without `vlan` is untagged. A PDU of role `sd` without
    `constant` offers the services whose replies its ECU sends.

    Args:
        path: a TOML file.
        seed: draws what the file leaves open, 0 or more.

    Raises:
        ConfigError: the file cannot be read or a value be taken; the sentence names its key, with tables of
            a kind counted from 0.
    """
    if seed < 0:
        raise ConfigError(f"--seed {seed}: a seed is 0 or more")
    try:
        file = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 at byte {error.start}") from None
    # Not its TOMLDecodeError alone: numbers of thousands of digits are another ValueError.
    except ValueError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deep") from None
    try:
        return _build(msgspec.convert(file, VehicleFile), seed)
    except (msgspec.ValidationError, RefusedError) as error:
        raise ConfigError(f"{path}: {refusal(error, file)}") from None


def _build(file: VehicleFile, seed: int) -> Vehicle:
    for table in ("ecu", "socket", "pdu"):
        if not getattr(file, table):
            raise RefusedError("", f"a vehicle has at least one [[{table}]]")
    first_ecu = file.ecu[0].name
    socket_names = [
        table.name or f"{table.ecu or first_ecu}-{index}" for index, table in enumerate(file.socket)
    ]
    check_unique([table.name for table in file.ecu], "ecu")
    check_unique(socket_names, "socket")
    check_unique([table.name for table in file.mode], "mode")
    check_unique([table.name for table in file.pdu], "pdu")
    ecus = build_ecus(file.ecu, seed)
    sockets = build_sockets(file.socket, socket_names, ecus)
    builder = PduBuilder(file, seed, ecus, sockets, socket_names)
    vehicle = Vehicle(
        name=file.vehicle.name,
        seed=seed,
        ecus=tuple(ecus),
        sockets=tuple(sockets),
        pdus=tuple(builder.pdu(index) for index in range(len(file.pdu))),
        modes=tuple(
            ModeModel(table.name, to_ns(table.active_s, S), to_ns(table.idle_s, S)) for table in file.mode
        ),
        source=file.vehicle.source,
    )
    _check_ids(vehicle, socket_names)
    _check_groups(vehicle)
    vehicle = fill_offers(vehicle, file.pdu)
    check_lengths(vehicle, file.pdu)
    return vehicle


def _check_ids(vehicle: Vehicle, socket_names: list[str]) -> None:
    """Refuse PDUs that cannot be told apart on a socket."""
    owners: dict[tuple[int, int], str] = {}
    for index, pdu in enumerate(vehicle.pdus):
        for socket in pdu.sockets:
            layout = vehicle.sockets[socket].layout
            if layout == "gptp":
                continue
            # Without headers, a socket has one PDU.
            owner = owners.setdefault((socket, pdu.pdu_id if layout == "soad" else 0), pdu.name)
            if owner == pdu.name:
                continue
            name = socket_names[socket]
            if layout == "soad":
                raise RefusedError(
                    f"pdu[{index}].id", f"0x{pdu.pdu_id:08X} is the id of {owner} on the socket {name}"
                )
            raise RefusedError(
                f"pdu[{index}].sockets", f"{name} has the layout none, so it carries one PDU, {owner}"
            )


def _check_groups(vehicle: Vehicle) -> None:
    """Refuse groups whose PDUs cannot be sent together."""
    groups: dict[int, list[int]] = {}
    for index, pdu in enumerate(vehicle.pdus):
        if pdu.group is None:
            continue
        members = groups.setdefault(pdu.group, [])
        if members:
            first, last = vehicle.pdus[members[0]], vehicle.pdus[members[-1]]
            key = f"pdu[{index}].group"
            if (pdu.ecu, pdu.cycle_ns, pdu.phase) != (first.ecu, first.cycle_ns, first.phase):
                raise RefusedError(key, f"{first.name} is in it too, but with another ECU, cycle or phase")
            order = vehicle.pdus_of(pdu.ecu)
            if order[order.index(index) - 1] != members[-1]:
                raise RefusedError(key, f"does not follow {last.name}, which is in it too, directly")
        members.append(index)
