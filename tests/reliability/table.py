"""All rows, in the order of the table."""

from tests.reliability.row import Measure

__all__ = ["MEASURES"]

MEASURES: dict[str, Measure] = {}
"""By the name that chooses a row on the command line."""
