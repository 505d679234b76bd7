"""Write a vehicle as a TOML file."""

import json

from training.simulate.conventions import is_trigger
from training.simulate.vehicle import EcuModel, PduModel, SocketModel, Vehicle
from training.simulate.vehicle_file_pdus import DEFAULT_IDS
from training.simulate.vehicle_file_values import MS, PPM, US, S

__all__ = ["vehicle_toml"]


def vehicle_toml(vehicle: Vehicle) -> str:
    """The vehicle as a file for `load_vehicle`; nothing is left open, defaults are left out."""
    names = [f"{vehicle.ecus[socket.ecu].name}-{index}" for index, socket in enumerate(vehicle.sockets)]
    tables = [_toml("[vehicle]", {"name": vehicle.name, "source": vehicle.source})]
    tables += [_toml("[[ecu]]", _ecu_row(ecu)) for ecu in vehicle.ecus]
    tables += [
        _toml("[[socket]]", {"name": name, "ecu": vehicle.ecus[socket.ecu].name, **_socket_row(socket)})
        for name, socket in zip(names, vehicle.sockets, strict=True)
    ]
    tables += [
        _toml(
            "[[mode]]",
            {"name": mode.name, "active_s": _in(mode.active_ns, S), "idle_s": _in(mode.idle_ns, S)},
        )
        for mode in vehicle.modes
    ]
    tables += [_toml("[[pdu]]", _pdu_row(vehicle, pdu, names)) for pdu in vehicle.pdus]
    return "\n".join(tables)


def _in(time_ns: int, unit_ns: int) -> float | int:
    """A time in a unit; reading it and rounding to nanoseconds gives it back."""
    return time_ns // unit_ns if time_ns % unit_ns == 0 else time_ns / unit_ns


def _ecu_row(ecu: EcuModel) -> dict[str, object]:
    return {
        "name": ecu.name,
        "node": ecu.node,
        "mac": ecu.mac,
        "raster_ms": _in(ecu.raster_ns, MS),
        "anchor_ms": _in(ecu.anchor_ns, MS),
        "drift_ppm": _in(ecu.drift_ppb, PPM),
        "jitter_us": _in(ecu.jitter_sigma_ns, US),
        "gap_us": _in(ecu.gap_ns, US),
        "gateway": ecu.gateway or None,
        "wake_delay_ms": _in(ecu.wake_delay_ns, MS),
        "start_delay_ms": _in(ecu.start_delay_ns, MS),
    }


def _socket_row(socket: SocketModel) -> dict[str, object]:
    return {
        "layout": None if socket.layout == "soad" else socket.layout,
        "vlan": socket.vlan,
        "source": socket.source or None,
        "source_port": socket.source_port or None,
        "destination": socket.destination or None,
        "destination_port": socket.destination_port or None,
        "collect_ms": _in(socket.collect_ns, MS) or None,
        "collection": None if socket.collection == "queued" else socket.collection,
    }


def _pdu_row(vehicle: Vehicle, pdu: PduModel, socket_names: list[str]) -> dict[str, object]:
    raster_ns = vehicle.ecus[pdu.ecu].raster_ns
    fast_ms = None if pdu.fast_cycle_ns is None else _in(pdu.fast_cycle_ns, MS)
    repeats = pdu.role == "com" and pdu.send_type in ("mixed", "event")
    is_reply = pdu.replies_to is not None
    return {
        "name": pdu.name,
        "id": None if pdu.pdu_id == DEFAULT_IDS.get(pdu.role) else _Hex(pdu.pdu_id),
        "ecu": vehicle.ecus[pdu.ecu].name,
        "sockets": [socket_names[socket] for socket in pdu.sockets],
        "role": None if pdu.role == "com" else pdu.role,
        "send_type": pdu.send_type,
        "cycle_ms": None if pdu.cycle_ns is None else _in(pdu.cycle_ns, MS),
        "fast_cycle_ms": fast_ms,
        "phase_ms": None if pdu.cycle_ns is None else _in(pdu.phase * raster_ns, MS),
        "mode": None if pdu.mode is None else vehicle.modes[pdu.mode].name,
        "announces": pdu.announces or None,
        "group": pdu.group,
        "forwarded": pdu.forwarded or None,
        "trigger": None if pdu.trigger == is_trigger(pdu.role, pdu.cycle_ns) else pdu.trigger,
        "needs_ignition": pdu.needs_ignition or None,
        "stop_delay_ms": _in(pdu.stop_delay_ns, MS),
        "event_interval_ms": _in(pdu.event_interval_ns, MS) or None,
        "repetitions": pdu.repetitions if repeats else None,
        "repetition_ms": _in(pdu.repetition_activations * raster_ns, MS) if repeats else None,
        "replies_to": vehicle.pdus[pdu.replies_to].name if pdu.replies_to is not None else None,
        "latency_ms": [_in(latency_ns, MS) for latency_ns in pdu.latency_ns] if is_reply else None,
        "constant": pdu.constant.hex(),
        "signals": [
            {"byte": byte, "step_ms": _in(step_ns, MS), "amplitude": amplitude, "offset": offset}
            for byte, step_ns, amplitude, offset in pdu.signals
        ]
        or None,
    }


class _Hex(int):
    """A number that is written in hexadecimal digits."""


def _toml(header: str, row: dict[str, object]) -> str:
    """A table; keys without a value are left out."""
    lines = [f"{key} = {_value(value)}" for key, value in row.items() if value is not None]
    return "\n".join([header, *lines, ""])


def _value(value: object) -> str:
    if isinstance(value, _Hex):
        return f"0x{value:08X}"
    if isinstance(value, str):
        # A JSON string is a TOML string but for DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_value(item)}' for key, item in value.items())} }}"
    return repr(value).lower()
