"""A trace scored once with a bundle, as `ecustream run` scores it."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from ecustream.decode.names import NameTable
from ecustream.decode.state import ActivityState
from ecustream.detect.calibration import Calibration
from ecustream.knowledge import calibration_of, names_of
from ecustream.ledger import Ledger
from ecustream.run.gaps import split_at_gaps
from ecustream.run.source import TraceLines
from ecustream.scoring.bundle import Bundle
from ecustream.scoring.manifest import BundleInfo, read_bundle
from training.evaluation.scored import Scored

__all__ = ["Opened", "open_bundle", "scan"]


class Opened(NamedTuple):
    """A bundle, ready to score, and how its lines are to be read."""

    path: Path
    info: BundleInfo
    bundle: Bundle
    calibration: Calibration
    names: NameTable
    source: str | None
    loggers: Mapping[str, str] | None = None

    def cycles_ns(self) -> dict[str, int]:
        """Learned cycles of its cyclic PDUs, for the activity state."""
        return {pdu.key: pdu.cycle_ns for pdu in self.info.pdus if pdu.cycle_ns}

    def fitted_on(self) -> set[str]:
        """SHA-256 of the traces that it has learned from: trained, fine-tuned or calibrated on."""
        return _digests(self.info.trained)


def _digests(told: Any) -> set[str]:
    """Every `sha256` in what a bundle says of its training, at any depth."""
    if isinstance(told, list):
        return {digest for part in told for digest in _digests(part)}
    if not isinstance(told, dict):
        return set()
    own = {str(told["sha256"])} if "sha256" in told else set()
    return own.union(*(_digests(part) for part in told.values()))


def open_bundle(
    path: Path,
    names: Path | None = None,
    source: str | None = None,
    loggers: Mapping[str, str] | None = None,
) -> Opened:
    """Load a bundle.

    Args:
        path: its folder.
        names: PDU names (CSV); None: the bundle's.
        source: bus name to use instead of the traces' own.
        loggers: interface id to bus name, see `ecustream.capture.unwrap`.

    Raises:
        BundleError: it is missing or damaged.
        InputError: the names cannot be read.
    """
    files = read_bundle(path)
    table = NameTable.load(names) if names else names_of(files.info)
    return Opened(path, files.info, Bundle(files), calibration_of(files), table, source, loggers)


def scan(opened: Opened, path: Path, damage: list[str] | None = None) -> Iterator[Scored]:
    """Score a trace, batch by batch; after an interruption the model begins anew.

    Args:
        opened: the bundle.
        path: of the trace.
        damage: at the end, sentences on what could not be read are added to it.

    Raises:
        InputError: the trace cannot be read at all.
    """
    scorer = opened.bundle.new_scorer()
    stream = scorer.open_stream()
    state = ActivityState(cycles_ns=opened.cycles_ns())
    lines_of = TraceLines(
        path,
        Ledger(),
        names=opened.names,
        key=opened.info.key,
        source=opened.source,
        loggers=opened.loggers,
        state=state,
    )
    last_ns = 0
    with closing(lines_of) as trace:
        for lines in trace:
            breaks = trace.breaks_up_to(lines[-1].number) if lines else []
            for part, gap in split_at_gaps(lines, trace.losses, last_ns, breaks=breaks):
                if gap:
                    stream.reset()
                    last_ns = part[0].time_ns
                yield Scored(scorer.score([(stream, part)])[0], gap, trace.bytes_read)
                last_ns = max(last_ns, part[-1].time_ns)
        if damage is not None:
            damage += trace.damage
