"""Say in one sentence which value of a vehicle file cannot be taken, and what can."""

import difflib
import re

import msgspec
from msgspec import inspect

from training.simulate.vehicle_file_tables import VehicleFile

__all__ = ["RefusedError", "refusal"]

# How alike a key must be to be the one that was meant.
ALIKE = 0.7
LONGEST_VALUE = 60

Keys = list[str | int]


class RefusedError(Exception):
    """A value that cannot be taken.

    Args:
        key: its path in the file, such as `pdu[0].cycle_ms`; empty for the whole file.
        reason: what is wrong with it.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)
        self.key = key
        self.reason = reason


def refusal(error: RefusedError | msgspec.ValidationError, file: dict[str, object]) -> str:
    """The sentence about an error: key path, the name of the table in which it is, and the reason.

    Args:
        error: of `VehicleFile`'s conversion, or raised by what builds the vehicle.
        file: what the file holds.
    """
    if isinstance(error, msgspec.ValidationError):
        error = _explained(str(error), file)
    if not error.key:
        return error.reason
    keys = _keys(error.key)
    table = _find(file, keys[:2])
    name = table.get("name") if isinstance(table, dict) and len(keys) > 1 else None
    where = f"{error.key} ({name})" if isinstance(name, str) and keys[-1] != "name" else error.key
    return f"{where}: {error.reason}"


def _explained(message: str, file: dict[str, object]) -> RefusedError:
    """A message of msgspec as key path and what is allowed there."""
    reason, _, at = message.partition(" - at `$")
    key = at.rstrip("`").lstrip(".")
    keys = _keys(key)
    named = re.fullmatch(r"Object (contains unknown|missing required) field `(.*)`", reason)
    if named is None:
        return RefusedError(key, f"must be {_allowed(keys)}, but is {_shown(_find(file, keys))}")
    path = f"{key}.{named[2]}" if key else named[2]
    if named[1] == "missing required":
        return RefusedError(path, f"is missing; it must be {_allowed([*keys, named[2]])}")
    table = _type_at(keys)
    assert isinstance(table, inspect.StructType)
    known = [field.name for field in table.fields]
    meant = difflib.get_close_matches(named[2].lower(), known, 1, ALIKE)
    hint = f"did you mean {meant[0]}?" if meant else f"there are {', '.join(known)}"
    return RefusedError(path, f"is no key; {hint}")


def _keys(path: str) -> Keys:
    """`pdu[0].name` as `["pdu", 0, "name"]`."""
    return [int(index) if index else name for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path)]


def _find(value: object, keys: Keys) -> object:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
    return value


def _type_at(keys: Keys) -> inspect.Type:
    found: inspect.Type = inspect.type_info(VehicleFile)
    for key in keys:
        if isinstance(found, inspect.StructType):
            found = next(field.type for field in found.fields if field.name == key)
        elif isinstance(found, inspect.ListType):
            found = found.item_type
        elif isinstance(found, inspect.TupleType):
            found = found.item_types[0]
        if isinstance(found, inspect.UnionType):
            # The other part is None, for keys that may be left out.
            found = next(part for part in found.types if not isinstance(part, inspect.NoneType))
    return found


def _allowed(keys: Keys) -> str:
    """What is allowed at a place in the file, in words."""
    allowed = _type_at(keys)
    if len(keys) > 1:
        return _described(allowed)
    if isinstance(allowed, inspect.ListType):
        return f"tables that begin with [[{keys[0]}]]"
    return f"one table that begins with [{keys[0]}]"


def _described(of: inspect.Type) -> str:
    """What values of a type are, in words."""
    if isinstance(of, inspect.LiteralType):
        return f"one of {', '.join(map(str, of.values))}"
    if isinstance(of, inspect.IntType | inspect.FloatType):
        kind = "a whole number" if isinstance(of, inspect.IntType) else "a number"
        kind = "an even number" if of.multiple_of == 2 else kind
        low = "" if of.ge is None else f" from {of.ge:,g}"
        low = low if of.gt is None else f" above {of.gt:,g}"
        return kind + low + ("" if of.le is None else f" up to {of.le:,.10g}")
    if isinstance(of, inspect.ListType):
        return f"a list, each item {_described(of.item_type)}"
    if isinstance(of, inspect.TupleType):
        return f"a list of {len(of.item_types)}, each item {_described(of.item_types[0])}"
    if isinstance(of, inspect.BoolType):
        return "true or false"
    if isinstance(of, inspect.StrType):
        return "a text that is not empty" if of.min_length else "a text"
    return "a table"


def _shown(value: object) -> str:
    """A value as it is in the file; what is long by its kind."""
    if isinstance(value, dict):
        return "a single table"
    if isinstance(value, list):
        return "a list of tables" if value and isinstance(value[0], dict) else f"a list of {len(value)}"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."
