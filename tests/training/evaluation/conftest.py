"""Traces to be judged, and a whole evaluation of them."""

import shutil
from pathlib import Path

import pytest

from training.evaluation.study import Study, run_study
from training.simulate import draw_vehicle, write_trace


@pytest.fixture(scope="session")
def unseen_clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen clean seconds that no bundle was fitted to."""
    path = tmp_path_factory.mktemp("unseen") / "unseen.pcapng"
    write_trace(draw_vehicle("bench"), path, seconds=15, drive=3)
    return path


@pytest.fixture(scope="session")
def study(clean_trace: Path, unseen_clean: Path, faulty_trace: Path, bundle_path: Path) -> Study:
    """Three traces, all baselines that are quick; they learn from the trace the bundle was fitted to."""
    return run_study(
        bundle_path,
        [clean_trace, unseen_clean, faulty_trace],
        baselines="random,interval rule,CUSUM,logistic regression",
        clean=[clean_trace],
        annotated=[faulty_trace],
    )


@pytest.fixture
def copied(faulty_trace: Path, tmp_path: Path) -> Path:
    """The faulty trace alone in a folder, without what lies beside it."""
    return Path(shutil.copy(faulty_trace, tmp_path / "copy.pcapng"))
