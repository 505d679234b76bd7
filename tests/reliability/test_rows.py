"""Each row of the reliability table holds, in its short form."""

from pathlib import Path

import pytest

from tests.reliability.row import Skipped
from tests.reliability.table import MEASURES


@pytest.mark.parametrize("name", MEASURES)
def test_row_holds(name: str, tmp_path: Path) -> None:
    """What the table promises is so."""
    try:
        row = MEASURES[name]("short", tmp_path)
    except Skipped as why:
        pytest.skip(str(why))
    assert row.holds, f"{row.what}: {row.figure}"
