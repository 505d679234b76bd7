"""Collects from a simulation what a picture of its traffic shows."""

from pathlib import Path

import numpy as np

from training.draws import IntArray
from training.labels import Context, Label
from training.simulate.batch import Batch
from training.simulate.plot import PlotRow, Traffic, plot_traffic
from training.simulate.vehicle import PduModel, Vehicle

__all__ = ["TrafficPlot"]


class TrafficPlot:
    """Takes from a trace what is in a window, and makes a picture of it.

    Args:
        vehicle: whose traffic it is.
        start_ns: start of the trace, nanoseconds since 1970.
        begin_s: start of the window, from the start of the trace.
        seconds: length of the window.

    Attributes:
        messages: PDUs in the window, copies to other destinations among them.
    """

    def __init__(self, vehicle: Vehicle, start_ns: int, begin_s: float, seconds: float) -> None:
        order = sorted(range(len(vehicle.pdus)), key=lambda pdu: vehicle.pdus[pdu].ecu)
        self._row_of = np.argsort(np.array(order, np.int64))
        self._rows = [_row(vehicle, vehicle.pdus[pdu]) for pdu in order]
        self._name = vehicle.name
        self._origin_ns = start_ns
        self._begin_ns = start_ns + round(begin_s * 1e9)
        self._end_ns = self._begin_ns + round(seconds * 1e9)
        self._parts: list[tuple[IntArray, IntArray]] = []
        self._labels: list[Label] = []
        self._context: list[Context] = []
        self.messages = 0

    def add(self, batch: Batch) -> None:
        """Take what is in the window; batches after it matter too, for labels come when a fault has ended."""
        self._labels += [label for label in batch.labels if self._overlaps(label)]
        self._context += [context for context in batch.context if self._overlaps(context)]
        inside = (batch.time_ns >= self._begin_ns) & (batch.time_ns < self._end_ns)
        if inside.any():
            pdus = np.diff(batch.first)
            self._parts.append(
                (
                    np.repeat(batch.time_ns[inside], pdus[inside]),
                    self._row_of[batch.pdu[np.repeat(inside, pdus)]],
                )
            )
            self.messages += len(self._parts[-1][0])

    def _overlaps(self, interval: Label | Context) -> bool:
        return interval.start_ns < self._end_ns and interval.end_ns >= self._begin_ns

    def save(self, path: Path) -> None:
        """Write the picture, see `plot_traffic`."""
        begin_s = (self._begin_ns - self._origin_ns) / 1e9
        end_s = (self._end_ns - self._origin_ns) / 1e9
        none = np.zeros(0, np.int64)
        traffic = Traffic(
            title=f"{self._name}: second {begin_s:g} to {end_s:g}, {self.messages} messages of "
            f"{len(self._rows)} PDUs, {len(self._labels)} faults",
            origin_ns=self._origin_ns,
            begin_ns=self._begin_ns,
            end_ns=self._end_ns,
            rows=self._rows,
            time_ns=np.concatenate([none, *(time_ns for time_ns, _ in self._parts)]),
            row=np.concatenate([none, *(row for _, row in self._parts)]),
            labels=self._labels,
            context=self._context,
        )
        plot_traffic(traffic, path)


def _row(vehicle: Vehicle, pdu: PduModel) -> PlotRow:
    cycles_ns = [cycle for cycle in (pdu.cycle_ns, pdu.fast_cycle_ns) if cycle is not None]
    timing = "/".join(f"{cycle / 1e6:g}" for cycle in cycles_ns) + " ms" if cycles_ns else "event"
    if pdu.send_type == "mixed":
        timing += " + change"
    return PlotRow(pdu.name, vehicle.ecus[pdu.ecu].name, timing, bool(cycles_ns))
