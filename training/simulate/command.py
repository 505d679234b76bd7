"""The command `simulate`: options, progress and a summary."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from training.simulate.draw import PRESETS, draw_vehicle
from training.simulate.faults import FAULT_LEVELS
from training.simulate.simulation import START_NS, Batch
from training.simulate.writer import write_trace

__all__ = ["simulate_command"]

PLAIN_STEPS = 10


def simulate_command(
    out: Annotated[Path, typer.Option(help="The capture: .pcapng or .pcap, also with .gz.")],
    preset: Annotated[str, typer.Option(help=f"Size of the vehicle: {', '.join(PRESETS)}.")] = "bench",
    seconds: Annotated[float, typer.Option(help="Length of the trace.")] = 60.0,
    seed: Annotated[int, typer.Option(help="Draws what happens: jitter, events, faults.")] = 0,
    vehicle_seed: Annotated[int, typer.Option(help="Draws the vehicle: PDUs, cycles, addresses.")] = 0,
    faults: Annotated[str, typer.Option(help=f"How many: {', '.join(FAULT_LEVELS)}.")] = "none",
    labels: Annotated[Path | None, typer.Option(help="Default: NAME.labels.jsonl beside the trace.")] = None,
    names: Annotated[Path | None, typer.Option(help="Default: NAME.names.csv beside the trace.")] = None,
) -> None:
    """Simulate a vehicle's traffic into a capture, with true labels of its faults and a name table."""
    vehicle = draw_vehicle(preset, vehicle_seed)
    with _progress(seconds) as advance_to:

        def on_batch(batch: Batch) -> None:
            advance_to((batch.until_ns - START_NS) / 1e9)

        summary = write_trace(
            vehicle,
            out,
            seconds=seconds,
            seed=seed,
            faults=faults,
            labels=labels,
            names=names,
            on_batch=on_batch,
        )
    print(
        f"{summary.out}: {seconds:g} s, {summary.pdus} PDUs in {summary.datagrams} datagrams, "
        f"{summary.faults} faults in {summary.labels}, names in {summary.names}"
    )


@contextmanager
def _progress(seconds: float) -> Iterator[Callable[[float], None]]:
    """Yield a function that shows how many seconds of the trace are done: a bar, or a line every tenth."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn("simulating"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("", total=seconds)
            yield lambda done_s: progress.update(task, completed=done_s)
        return
    shown = 0

    def show(done_s: float) -> None:
        nonlocal shown
        if int(PLAIN_STEPS * done_s / seconds) > shown:
            shown = int(PLAIN_STEPS * done_s / seconds)
            print(f"simulated {done_s:g} of {seconds:g} s", file=sys.stderr)

    yield show
