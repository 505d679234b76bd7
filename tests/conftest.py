"""Fixtures of the whole house: a small vehicle, its traffic, and a real bundle fitted to it."""

from pathlib import Path

import pytest
import torch

from ecustream.decode.names import NameTable
from training.bodies import Body
from training.fit import FitSettings, fit
from training.recipe import Recipe
from training.simulate import draw_vehicle, write_trace
from training.traces import Traces

# Models in tests are tiny: a second thread costs more than it brings, most of all on a busy machine.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def clean_trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty seconds of clean traffic of the bench vehicle."""
    path = tmp_path_factory.mktemp("clean") / "clean.pcapng"
    write_trace(draw_vehicle("bench"), path, seconds=40, drive=1)
    return path


@pytest.fixture(scope="session")
def faulty_trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty seconds of the same vehicle with faults; labels lie beside it."""
    path = tmp_path_factory.mktemp("faulty") / "faulty.pcapng"
    write_trace(draw_vehicle("bench"), path, seconds=30, drive=5, faults="heavy")
    return path


@pytest.fixture(scope="session")
def bundle_path(clean_trace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle fitted to the clean trace; its model is tiny and hardly trained."""
    out = tmp_path_factory.mktemp("bundles") / "bench"
    names = NameTable.load(clean_trace.with_suffix(".names.csv"))
    settings = FitSettings(
        body=Body(hidden=32, layers=2, heads=2, inner=64, window=64),
        recipe=Recipe(max_steps=25, max_seconds=60, evaluate_every=5),
    )
    fit(Traces([clean_trace], names), out, settings)
    return out
