"""Which faults a trace is to have: by a level, or from a file."""

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecustream.errors import ConfigError
from training.simulate.faults.kinds import FAULT_KINDS
from training.simulate.faults.planned import PlannedFault

__all__ = ["FAULT_LEVELS", "ExplicitFault", "FaultSpec", "read_faults"]

FAULT_LEVELS: dict[str, float | None] = {"none": None, "light": 20.0, "heavy": 4.0}
"""Mean seconds from fault to fault."""
SEVERITIES = (1, 2, 3, 4)
KEYS = ("every_s", "kinds", "shares", "severities", "controls", "fault")
FAULT_KEYS = ("kind", "at_s", "pdu", "ecu", "size")
LEAST_EVERY_S = 0.1
MOST = 1e9


@dataclass(frozen=True, slots=True)
class ExplicitFault:
    """A fault at a given time.

    Attributes:
        kind: a key of `FAULT_KINDS`.
        at_s: when, in seconds from the start of the trace.
        target: name of the PDU or ECU; None: drawn.
        size: in the kind's unit; None: drawn.
    """

    kind: str
    at_s: float
    target: str | None = None
    size: float | None = None


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """Which faults a trace is to have.

    Attributes:
        every_s: mean time from one drawn fault to the next; None: none are drawn.
        shares: how often each kind is drawn, by kind; of controls and of faults in proportion to each other
            only. Empty: all kinds alike.
        severities: those which are drawn.
        controls: one in eight that are drawn is a control.
        explicit: faults at given times.
        source: the option or file to name in errors.
    """

    every_s: float | None = None
    shares: tuple[tuple[str, float], ...] = ()
    severities: tuple[int, ...] = SEVERITIES
    controls: bool = True
    explicit: tuple[ExplicitFault, ...] = ()
    source: str = "--faults"


def read_faults(argument: str) -> FaultSpec:
    """Which faults a trace is to have.

    Args:
        argument: `none`, `light` (about one in 20 s), `heavy` (one in 4 s), or a TOML file with `every_s`,
            `kinds = [...]` or a table `[shares]` of numbers by kind, `severities`, `controls`, and tables
            `[[fault]]` of `kind`, `at_s` and, where it is not to be drawn, `pdu` or `ecu`, and `size`.

    Raises:
        ConfigError: there is no such level and no such file, or a key of the file is wrong.
    """
    if argument in FAULT_LEVELS:
        return FaultSpec(every_s=FAULT_LEVELS[argument])
    path = Path(argument)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        levels = ", ".join(FAULT_LEVELS)
        raise ConfigError(f"--faults {path}: neither one of {levels} nor a file: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    return _Reader(str(path)).spec(table)


class _Reader:
    """Reads the tables of a file, and names the file and the key where one is wrong."""

    def __init__(self, source: str) -> None:
        self._source = source

    def spec(self, table: dict[str, Any]) -> FaultSpec:
        self._known(table, KEYS, "")
        if "kinds" in table and "shares" in table:
            raise self._wrong("kinds", "give either kinds or shares")
        faults = table.get("fault", [])
        if not (isinstance(faults, list) and all(isinstance(fault, dict) for fault in faults)):
            raise self._wrong("fault", "must be tables [[fault]]")
        every_s = table.get("every_s")
        spec = FaultSpec(
            every_s=None if every_s is None else self._number("every_s", every_s, LEAST_EVERY_S),
            shares=self._shares(table),
            severities=self._severities(table.get("severities", list(SEVERITIES))),
            controls=self._flag("controls", table.get("controls", True)),
            explicit=tuple(self._explicit(f"fault[{i}]", fault) for i, fault in enumerate(faults)),
            source=self._source,
        )
        for key in ("kinds", "shares", "severities", "controls"):
            if every_s is None and key in table:
                raise self._wrong("every_s", f"is missing; {key} is about faults that are drawn")
        if spec.shares and not spec.controls and all(FAULT_KINDS[k].category is None for k, _ in spec.shares):
            raise self._wrong("controls", "is false, but only kinds of controls are to be drawn")
        return spec

    def _shares(self, table: dict[str, Any]) -> tuple[tuple[str, float], ...]:
        if "kinds" in table:
            kinds = table["kinds"]
            if not isinstance(kinds, list) or not kinds:
                raise self._wrong("kinds", f"must be a list of kinds, of {_any(FAULT_KINDS)}")
            return tuple((self._kind(f"kinds[{i}]", kind).kind, 1.0) for i, kind in enumerate(kinds))
        shares = table.get("shares", {})
        if not isinstance(shares, dict):
            raise self._wrong("shares", "must be a table of numbers by kind")
        result = tuple(
            (self._kind(f"shares.{kind}", kind).kind, self._number(f"shares.{kind}", share, 0.0))
            for kind, share in shares.items()
        )
        if result and not any(share for _, share in result):
            raise self._wrong("shares", "at least one share must be more than 0")
        return result

    def _severities(self, value: object) -> tuple[int, ...]:
        if not (isinstance(value, list) and value and all(type(s) is int and s in SEVERITIES for s in value)):
            raise self._wrong("severities", f"must be a list of {_any(SEVERITIES)}")
        return tuple(sorted(set(value)))

    def _explicit(self, path: str, table: dict[str, Any]) -> ExplicitFault:
        self._known(table, FAULT_KEYS, f"{path}.")
        for key in ("kind", "at_s"):
            if key not in table:
                raise self._wrong(f"{path}.{key}", "is missing")
        kind = self._kind(f"{path}.kind", table["kind"])
        target: str | None = None
        for key in ("pdu", "ecu"):
            if key in table:
                target = self._target(f"{path}.{key}", key, table[key], kind)
        size = self._size(f"{path}.size", kind, table["size"]) if "size" in table else None
        return ExplicitFault(kind.kind, self._number(f"{path}.at_s", table["at_s"], 0.0), target, size)

    def _target(self, path: str, key: str, value: object, kind: type[PlannedFault]) -> str:
        if kind.target_type != key:
            allowed = "neither a pdu nor an ecu" if kind.target_type == "none" else f"an {kind.target_type}"
            raise self._wrong(path, f"{kind.kind} takes {allowed.replace('an pdu', 'a pdu')}")
        if not isinstance(value, str):
            raise self._wrong(path, "must be a name")
        return value

    def _size(self, path: str, kind: type[PlannedFault], value: object) -> float:
        low, high = kind.sizes[0][0], kind.sizes[-1][1]
        size = self._number(path, value, -math.inf)
        if kind.whole and size != round(size):
            raise self._wrong(path, f"must be a whole number of {kind.unit}")
        if not kind.allows(size):
            amount = "an amount of " if kind.signed else ""
            raise self._wrong(path, f"{kind.kind} has {amount}{low:g} to {high:g} {kind.unit}, not {size:g}")
        return size

    def _kind(self, path: str, value: object) -> type[PlannedFault]:
        if not isinstance(value, str) or value not in FAULT_KINDS:
            raise self._wrong(path, f"there is no kind {value}, only {_any(FAULT_KINDS)}")
        return FAULT_KINDS[value]

    def _number(self, path: str, value: object, least: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self._wrong(path, "must be a number")
        if value < least:
            raise self._wrong(path, f"must be {least:g} or more, not {value:g}")
        if value > MOST:
            raise self._wrong(path, f"must be {MOST:g} or less, not {value:g}")
        return float(value)

    def _flag(self, path: str, value: object) -> bool:
        if not isinstance(value, bool):
            raise self._wrong(path, "must be true or false")
        return value

    def _known(self, table: dict[str, Any], keys: tuple[str, ...], prefix: str) -> None:
        for key in table:
            if key not in keys:
                raise self._wrong(f"{prefix}{key}", f"there is no such key, only {_any(keys)}")

    def _wrong(self, path: str, what: str) -> ConfigError:
        return ConfigError(f"{self._source}: {path}: {what}")


def _any(items: Any) -> str:
    return ", ".join(str(item) for item in items)
