"""The command `simulate`: options, progress and a summary."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ecustream.decode.wireshark import wireshark_profile
from ecustream.errors import ConfigError, OutputError
from ecustream.progress import WorkProgress
from training.annotator import AnnotationSummary
from training.simulate.annotation import AnnotatorSettings
from training.simulate.batch import Batch
from training.simulate.draw import PRESETS, draw_vehicle
from training.simulate.live import send_live
from training.simulate.live_traffic import live_slices
from training.simulate.names import NM_PORT, name_rows
from training.simulate.plot import check_picture
from training.simulate.simulation import Simulation
from training.simulate.traffic_plot import TrafficPlot
from training.simulate.vehicle import Vehicle
from training.simulate.vehicle_file import load_vehicle, vehicle_toml
from training.simulate.writer import TraceSummary, record, trace_files, written_whole

__all__ = ["simulate_command"]

_BESIDE = "Default: beside the trace."


def simulate_command(
    out: Annotated[
        Path | None, typer.Option(help="The capture: .pcapng or .pcap, also with .gz; names the other files.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help=f"Size of the vehicle: {', '.join(PRESETS)}.", show_default="bench")
    ] = None,
    vehicle: Annotated[
        Path | None, typer.Option(help="Your own vehicle (TOML) in place of a preset.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the vehicle: PDUs, cycles, addresses, clocks.")] = 0,
    drive: Annotated[int, typer.Option(help="Draws what happens on it: jitter, events, modes, faults.")] = 0,
    seconds: Annotated[float, typer.Option(help="Length of the trace.")] = 60.0,
    scenario: Annotated[
        str, typer.Option(help="drive (amid driving), day (sleep to sleep, with a restart), or a TOML file.")
    ] = "drive",
    faults: Annotated[
        str, typer.Option(help="none, light (every 20 s), heavy (every 4 s), or a TOML file.")
    ] = "none",
    labels: Annotated[Path | None, typer.Option(help=f"True faults. {_BESIDE}")] = None,
    context: Annotated[
        Path | None, typer.Option(help=f"True activity states, modes, and controls. {_BESIDE}")
    ] = None,
    names: Annotated[Path | None, typer.Option(help=f"Name table. {_BESIDE}")] = None,
    wireshark: Annotated[Path | None, typer.Option(help="Folder for a Wireshark profile with names.")] = None,
    save_vehicle: Annotated[Path | None, typer.Option(help="Write the vehicle as TOML, for editing.")] = None,
    annotator_recall: Annotated[
        float | None,
        typer.Option(help="Share of the faults that the annotator labels at most.", min=0, max=1),
    ] = None,
    annotator_precision: Annotated[
        float | None, typer.Option(help="Share of the annotator's labels that are faults.", min=0, max=1)
    ] = None,
    annotator_lateness_ms: Annotated[
        float | None,
        typer.Option(help="How late the annotator's labels are, in the mean.", min=0, max=60_000),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture of the traffic: .png, .svg or .pdf.")] = None,
    plot_from: Annotated[float, typer.Option(help="Where the picture begins, in s.", min=0)] = 0.0,
    plot_seconds: Annotated[float, typer.Option(help="How much it shows.", min=0.001)] = 5.0,
    live: Annotated[
        str | None, typer.Option(help="Send it on this network interface, in real time; needs CAP_NET_RAW.")
    ] = None,
) -> None:
    """Simulate a vehicle's traffic: a capture, or live; its true labels, names, and an annotator's labels."""
    if preset is not None and vehicle is not None:
        raise ConfigError("--preset and --vehicle exclude each other")
    model = draw_vehicle(preset or "bench", seed) if vehicle is None else load_vehicle(vehicle, seed)
    if plot is not None:
        check_picture(plot)
        if plot_from >= seconds:
            raise ConfigError(f"--plot-from {plot_from:g}: the trace is over after {seconds:g} s")
    _save(model, save_vehicle, wireshark)
    settings = AnnotatorSettings(
        recall=annotator_recall,
        precision=annotator_precision,
        lateness_ns=None if annotator_lateness_ms is None else round(annotator_lateness_ms * 1e6),
    )
    files = None if out is None else trace_files(out, labels, context, names)
    if live is not None:
        if plot is not None:
            raise ConfigError("--plot: there is no picture of what is sent live; make it without --live")
        report = send_live(
            live, partial(live_slices, model, seconds, drive, faults, scenario, files, settings)
        )
        print(f"{live}: {report}")
        if report.stopped:
            raise typer.Exit(130)
        return
    if files is None:
        if save_vehicle is None and wireshark is None:
            raise ConfigError("--out is missing: where does the trace go? (or --live INTERFACE)")
        return
    simulation = Simulation(model, seconds, drive, faults, scenario)
    picture = None if plot is None else TrafficPlot(model, simulation.start_ns, plot_from, plot_seconds)
    faults_s: list[float] = []
    with WorkProgress("simulating", seconds) as progress:

        def on_batch(batch: Batch) -> None:
            progress.update((batch.until_ns - simulation.start_ns) / 1e9)
            faults_s.extend((label.start_ns - simulation.start_ns) / 1e9 for label in batch.labels)
            if picture is not None:
                picture.add(batch)

        summary = record(simulation, files, settings, on_batch)
    if picture is not None and plot is not None:
        picture.save(plot)
        elsewhere = [at_s for at_s in faults_s if not plot_from <= at_s < plot_from + plot_seconds]
        if elsewhere and len(elsewhere) == len(faults_s):
            print(f"{plot}: no fault begins in it; the first is at {min(elsewhere):.1f} s, see --plot-from")
    print(_sentence(summary, seconds))


def _save(vehicle: Vehicle, toml: Path | None, wireshark: Path | None) -> None:
    """Write what describes the vehicle itself, where that was asked for."""
    texts = {} if toml is None else {toml: vehicle_toml(vehicle)}
    if wireshark is not None:
        profile = wireshark_profile(name_rows(vehicle), NM_PORT)
        texts |= {wireshark / name: text for name, text in profile.items()}
        try:
            wireshark.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{wireshark}: cannot be made a folder: {error.strerror}") from None
    with written_whole(*texts) as files:
        for file, text in zip(files, texts.values(), strict=True):
            file.write(text.encode())


def _sentence(summary: TraceSummary, seconds: float) -> str:
    files = summary.files
    return (
        f"{files.out}: {seconds:g} s, {summary.pdus} PDUs in {summary.datagrams} datagrams\n"
        f"{files.labels}: {summary.faults} faults\n"
        f"{files.context}: activity states, modes, {summary.controls} controls\n"
        f"{files.annotator}: {_annotator(summary.annotation)}\n"
        f"{files.names}"
    )


def _annotator(summary: AnnotationSummary) -> str:
    if not summary.faults:
        return f"{summary.annotations} annotations by the cycle time rule, all wrong: there are no faults"

    def share(value: float | None) -> str:
        return "none" if value is None else f"{value:.2f}"

    return (
        f"{summary.annotations} annotations by the cycle time rule, recall {share(summary.recall)}, "
        f"precision {share(summary.precision)}"
    )
