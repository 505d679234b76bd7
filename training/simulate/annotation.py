"""The rule annotator beside a simulation: what it sees of each slice, and what it makes of the drive."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from training.annotator import AnnotationSummary, CycleTimeCheck, UnreliableAnnotator
from training.labels import Label
from training.simulate.batch import Batch
from training.simulate.simulation import Simulation
from training.simulate.vehicle import PduModel

__all__ = ["AnnotatorSettings", "TraceAnnotator"]


@dataclass(frozen=True, slots=True)
class AnnotatorSettings:
    """How unreliable its labels are, see `UnreliableAnnotator`."""

    recall: float | None = None
    precision: float | None = None
    lateness_ns: int | None = None


class TraceAnnotator:
    """Feeds every message of a simulation to the annotator; a message is a PDU on a socket.

    Args:
        simulation: what will be seen.
        settings: of the annotator.
    """

    def __init__(self, simulation: Simulation, settings: AnnotatorSettings) -> None:
        pdus = simulation.vehicle.pdus
        self._sockets = len(simulation.sockets)
        pairs = np.arange(len(pdus) * self._sockets)
        check = CycleTimeCheck(
            [_checked_cycle_ns(pdus[pair // self._sockets]) for pair in pairs.tolist()],
        )
        names = [pdus[pair // self._sockets].name for pair in pairs.tolist()]
        seed = simulation.drive
        self._annotator = UnreliableAnnotator(
            check, names, settings.recall, settings.precision, settings.lateness_ns, seed
        )

    def see(self, batch: Batch) -> None:
        """Take the messages of a slice with the times that the logger gave them."""
        size = np.diff(batch.first)
        message = batch.pdu * self._sockets + np.repeat(batch.socket, size)
        self._annotator.feed(message, np.repeat(batch.stamp_ns, size))

    def finish(self, truth: Sequence[Label]) -> tuple[Iterator[Label], AnnotationSummary]:
        """Its labels in order of time and how good they are, given the true faults."""
        return self._annotator.finish(truth), self._annotator.summary


def _checked_cycle_ns(pdu: PduModel) -> int:
    """The cycle that the rule compares with; 0 where CANoe does not check: events, NM, diagnostics."""
    return (pdu.cycle_ns or 0) if pdu.role == "com" else 0
