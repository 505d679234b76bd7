"""The little plan, run once."""

from pathlib import Path

import pytest

from tests.training.reproduction.little import little
from training.reproduction.executor import execute
from training.reproduction.records import Record


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the little plan was run."""
    return tmp_path_factory.mktemp("reproduction")


@pytest.fixture(scope="session")
def records(folder: Path) -> dict[str, Record]:
    """What it gave."""
    return execute(little(), folder)
