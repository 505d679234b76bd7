"""Values of a vehicle file as models have them: nanoseconds, activations, indices, addresses."""

from ipaddress import ip_address

from training.simulate.vehicle import EcuModel
from training.simulate.vehicle_file_errors import RefusedError

__all__ = ["MS", "PPM", "US", "S", "activations", "address", "check_unique", "index_of", "to_ns"]

PPM = 1_000
US = 1_000
MS = 1_000_000
S = 1_000_000_000


def to_ns(value: float, unit_ns: int) -> int:
    """A time in nanoseconds."""
    return round(value * unit_ns)


def activations(value_ms: float, ecu: EcuModel, key: str) -> int:
    """A time, more than 0 or 0 itself, in activations of the ECU's task."""
    time_ns = to_ns(value_ms, MS)
    if time_ns % ecu.raster_ns:
        raise RefusedError(
            key, f"{value_ms:g} ms is no multiple of {ecu.raster_ns / MS:g} ms, the raster of {ecu.name}"
        )
    if value_ms > 0 and time_ns == 0:
        raise RefusedError(key, f"{value_ms:g} ms is less than a nanosecond")
    return time_ns // ecu.raster_ns


def address(text: str, key: str) -> str:
    """An IPv6 or IPv4 address in its shortest form."""
    try:
        found = ip_address(text)
    except ValueError:
        raise RefusedError(key, f"{text!r} is no IPv6 or IPv4 address") from None
    if "%" in text:
        raise RefusedError(key, f"{text!r} has a zone, which has no place in a packet")
    return str(found)


def check_unique(values: list[str], table: str, key: str = "name") -> None:
    """Refuse a value that an earlier table of the kind has."""
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            raise RefusedError(f"{table}[{index}].{key}", f"{value} is the {key} of an earlier {table}")
        seen.add(value)


def index_of(name: str, names: list[str], key: str, table: str) -> int:
    """The place of a table of this name among those of its kind."""
    if name not in names:
        others = f"there are {', '.join(names)}" if names else "the file has none"
        raise RefusedError(key, f"there is no {table} {name!r}; {others}")
    return names.index(name)
