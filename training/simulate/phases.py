"""Scenarios: the phases of a trace, by name or from a file."""

import tomllib
from itertools import cycle
from pathlib import Path
from typing import Any, get_args

from ecustream.errors import ConfigError
from training.simulate.segments import Phase, PhaseKind

__all__ = ["read_scenario"]

SECOND = 1_000_000_000
STARTUP_SECONDS = 5
SHUTDOWN_SECONDS = 10
INTERRUPTED_SECONDS = 2.5
SLEEP_SHARE = 0.05
SLEEP_SECONDS = (1, 300)
# A day has rounds of about half an hour; a shorter one has two, or one where there is no time for two.
ROUND_SECONDS = 1_800
SHORT_ROUND_SECONDS = 60
RESTART_SECONDS = 40

SHORTEST_SECONDS = 1
SHORTEST_STARTUP_SECONDS = 4
LONGEST_SECONDS = 10**9
FOLLOWERS: dict[str, tuple[str, ...]] = {
    "asleep": ("asleep", "startup"),
    "startup": ("startup", "drive", "shutdown"),
    "drive": ("drive", "shutdown"),
    "shutdown": ("shutdown", "startup", "asleep"),
}


def read_scenario(argument: str, seconds: float) -> tuple[Phase, ...]:
    """The phases of a trace.

    Args:
        argument: `drive` (driving all the time), `day` (rounds of sleep, startup, drive and shutdown, with a
            restart before the shutdown is done; scaled to `seconds`, from 20 s), or a TOML file with
            `[[phase]]` tables of `kind` and `seconds`, which repeat until the trace ends.
        seconds: length of the trace, more than 0.

    Raises:
        ConfigError: there is no such scenario, or a key of the file is wrong.
    """
    if argument == "drive":
        parts: list[tuple[PhaseKind, float]] = [("drive", seconds)]
    elif argument == "day":
        parts = _day(seconds)
    else:
        parts = _read(Path(argument))
    return _phases(parts, round(seconds * SECOND))


def _phases(parts: list[tuple[PhaseKind, float]], end_ns: int) -> tuple[Phase, ...]:
    phases: list[Phase] = []
    at_ns = 0
    for kind, seconds in cycle(parts):
        until_ns = min(end_ns, at_ns + round(seconds * SECOND))
        phases.append(Phase(kind, at_ns, until_ns))
        at_ns = until_ns
        if at_ns >= end_ns:
            return tuple(phases)
    return tuple(phases)


def _day(seconds: float) -> list[tuple[PhaseKind, float]]:
    """One round; as many of them as fit make the day."""
    rounds = max(1, min(2, int(seconds // SHORT_ROUND_SECONDS)), round(seconds / ROUND_SECONDS))
    length = seconds / rounds
    least, most = SLEEP_SECONDS
    asleep = min(max(length * SLEEP_SHARE, least), most)
    restarts = length >= RESTART_SECONDS
    fixed = 2 * asleep + STARTUP_SECONDS + SHUTDOWN_SECONDS
    if restarts:
        fixed += INTERRUPTED_SECONDS + STARTUP_SECONDS
    drive = max(length - fixed, SHORTEST_SECONDS)
    ride: list[tuple[PhaseKind, float]] = [("startup", STARTUP_SECONDS), ("drive", drive)]
    if restarts:
        ride = [
            ("startup", STARTUP_SECONDS),
            ("drive", 0.6 * drive),
            ("shutdown", INTERRUPTED_SECONDS),
            ("startup", STARTUP_SECONDS),
            ("drive", 0.4 * drive),
        ]
    return [("asleep", asleep), *ride, ("shutdown", SHUTDOWN_SECONDS), ("asleep", asleep)]


def _read(path: Path) -> list[tuple[PhaseKind, float]]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"--scenario {path}: is neither drive nor day nor a file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}") from None
    for key in content:
        if key != "phase":
            raise ConfigError(f"{path}: {key}: no such key, a scenario has [[phase]] tables")
    tables = content.get("phase")
    if not isinstance(tables, list) or not tables:
        raise ConfigError(f"{path}: phase: must be one or more [[phase]] tables")
    parts = [_part(f"{path}: phase[{number}]", table) for number, table in enumerate(tables, 1)]
    for number in range(len(parts)):
        kind, follower = parts[number][0], parts[(number + 1) % len(parts)][0]
        if follower not in FOLLOWERS[kind]:
            raise ConfigError(
                f"{path}: phase[{(number + 1) % len(parts) + 1}].kind: {follower} cannot follow {kind}, "
                f"only {' or '.join(FOLLOWERS[kind])} can (after the last phase comes the first again)"
            )
    return parts


def _part(where: str, table: Any) -> tuple[PhaseKind, float]:
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: must be a table")
    for key in table:
        if key not in ("kind", "seconds"):
            raise ConfigError(f"{where}.{key}: no such key, a phase has kind and seconds")
    kind = next((kind for kind in get_args(PhaseKind) if kind == table.get("kind")), None)
    if kind is None:
        raise ConfigError(f"{where}.kind: must be one of {', '.join(get_args(PhaseKind))}")
    least = SHORTEST_STARTUP_SECONDS if kind == "startup" else SHORTEST_SECONDS
    seconds: Any = table.get("seconds")
    # bool is an int.
    if type(seconds) not in (int, float) or not least <= seconds <= LONGEST_SECONDS:
        raise ConfigError(f"{where}.seconds: must be a number, for {kind} {least} to {LONGEST_SECONDS}")
    return kind, float(seconds)
