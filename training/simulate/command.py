"""The command `simulate`: options, progress and a summary."""

from pathlib import Path
from typing import Annotated

import typer

from ecustream.progress import WorkProgress
from training.simulate.draw import PRESETS, draw_vehicle
from training.simulate.faults import FAULT_LEVELS
from training.simulate.simulation import START_NS, Batch
from training.simulate.writer import write_trace

__all__ = ["simulate_command"]


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
    with WorkProgress("simulating", seconds) as progress:

        def on_batch(batch: Batch) -> None:
            progress.update((batch.until_ns - START_NS) / 1e9)

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
