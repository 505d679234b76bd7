"""A simulation as the slices that are sent live, recorded beside where that is asked for."""

import contextlib
from collections.abc import Generator

from training.simulate.annotation import AnnotatorSettings
from training.simulate.batch import Batch
from training.simulate.frames import FrameEncoder
from training.simulate.live import LiveSlice
from training.simulate.simulation import Simulation
from training.simulate.vehicle import Vehicle
from training.simulate.writer import TraceFiles, recording

__all__ = ["live_slices"]


def live_slices(
    vehicle: Vehicle,
    seconds: float,
    drive: int,
    faults: str,
    scenario: str,
    files: TraceFiles | None,
    annotator: AnnotatorSettings,
    start_ns: int,
) -> Generator[LiveSlice, None, None]:
    """The frames of a drive that starts at `start_ns`, nanoseconds since 1970, second by second.

    Where `files` is given, what is sent is recorded there with its labels; when sending stops early, up to
    there. The other arguments are those of `Simulation`.
    """
    simulation = Simulation(vehicle, seconds, drive, faults, scenario, start_ns)
    encoder = FrameEncoder(vehicle, simulation.sockets, 0, 0, 2)
    with contextlib.ExitStack() as stack:
        recorder = None if files is None else stack.enter_context(recording(simulation, files, annotator))
        # Closing the generator is the ordinary end of a live drive, so what was recorded is kept.
        with contextlib.suppress(GeneratorExit):
            for batch in simulation.batches():
                if recorder is not None:
                    recorder.see(batch)
                yield _slice(encoder, batch)
        if recorder is not None:
            recorder.finish()


def _slice(encoder: FrameEncoder, batch: Batch) -> LiveSlice:
    frames = encoder.encode(batch)
    return LiveSlice(batch.until_ns, batch.time_ns, frames.data, frames.start, frames.length)
