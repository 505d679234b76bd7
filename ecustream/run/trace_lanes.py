"""Opens the traces of a run, each as a lane."""

import threading
from collections.abc import Sequence
from pathlib import Path

from ecustream.config import Config
from ecustream.errors import ConfigError, InputError
from ecustream.knowledge import activity_state, names_for
from ecustream.ledger import Ledger
from ecustream.run.lanes import Lane
from ecustream.run.replay import Pacer
from ecustream.run.ring import Policy, Ring
from ecustream.run.source import TraceLines
from ecustream.scoring.manifest import BundleInfo
from ecustream.stages import StageClock

__all__ = ["open_lanes", "open_trace", "refuse_if_empty", "trace_names"]

_READ_AHEAD_CHUNKS = 16
"""At full speed reading is faster than scoring, and what it is ahead only costs memory, for each trace."""


def open_trace(
    config: Config, info: BundleInfo, path: Path, ledger: Ledger, clock: StageClock | None = None
) -> TraceLines:
    """The lines of a trace, as configuration and bundle have them.

    Raises:
        EcustreamError: it cannot be read, or a key is wrong.
    """
    return TraceLines(
        path,
        ledger,
        names=names_for(config, info),
        key=config.input.key,
        layouts=config.input.layouts,
        source=config.input.source,
        loggers=config.capture.loggers,
        state=activity_state(config, info),
        clock=clock,
    )


def open_lanes(
    config: Config, info: BundleInfo, traces: Sequence[Path], changed: threading.Condition, clock: StageClock
) -> list[Lane]:
    """A lane for each trace; none of them has begun to read.

    Args:
        config: the configuration in force.
        info: of the bundle, for names and states.
        traces: capture or CSV files.
        changed: the condition that all rings share.
        clock: accounts for the time of capture and decode.

    Raises:
        InputError: a trace cannot be read at all.
        ConfigError: a key is wrong, or a trace is given twice.
    """
    policy: Policy = "skip" if config.ring.when_full == "skip" else "wait"
    if policy == "skip" and config.scoring.speed == "max":
        raise ConfigError(
            'ring.when_full is "skip", but at full speed nothing needs to be skipped; '
            "give scoring.speed (--speed) a multiple of real time"
        )
    lanes: list[Lane] = []
    try:
        for name, path in zip(trace_names(traces), traces, strict=True):
            ledger = Ledger()
            source = open_trace(config, info, path, ledger, clock)
            pacer, room = None, min(config.ring.lines, _READ_AHEAD_CHUNKS * config.scoring.chunk_lines)
            if config.scoring.speed != "max":
                pacer, room = Pacer(config.scoring.speed), config.ring.lines
            ring = Ring(room, policy, ledger, changed)
            lanes.append(Lane(name, source, ring, pacer, ledger))
    except BaseException:
        for lane in lanes:
            lane.source.close()
        raise
    return lanes


def trace_names(traces: Sequence[Path]) -> list[str]:
    """The traces' file names, with as many folders as it takes to tell them apart.

    Raises:
        ConfigError: a trace is given twice.
    """
    for path in traces:
        if [other.absolute() for other in traces].count(path.absolute()) > 1:
            raise ConfigError(f"{path}: is given twice")
    names = [path.name for path in traces]
    count = 1
    while len(set(names)) < len(names):
        count += 1
        names = ["/".join(path.absolute().parts[-count:]) for path in traces]
    return names


def _no_pdu(path: Path, lane: Lane) -> str:
    """What became of the frames of a trace that has not a single line."""
    frames = ", ".join(f"{n} {end}" for end, n in lane.ledger.ends["frames"].items())
    return f"{path}: there is no PDU in this trace: {'; '.join([frames or 'no frame', *lane.source.damage])}"


def refuse_if_empty(lanes: Sequence[Lane], paths: Sequence[Path]) -> list[str]:
    """A sentence for each trace without a line.

    Raises:
        InputError: there is no other trace.
    """
    sentences = [
        _no_pdu(path, lane)
        for path, lane in zip(paths, lanes, strict=True)
        if not lane.ledger.entered["lines"]
    ]
    if len(sentences) == len(lanes):
        raise InputError("; ".join(sentences))
    return sentences
