"""Refuses outputs that would be written over an input, or over each other."""

from collections.abc import Iterable
from pathlib import Path

from ecustream.errors import OutputError

__all__ = ["refuse_clashes"]


def refuse_clashes(read: Iterable[Path | None], written: Iterable[Path | None]) -> None:
    """Check before anything is opened for writing; None is a file that was not asked for.

    Raises:
        OutputError: one file, by whatever name or link, is to be read and written, or written twice.
    """
    inputs = {path.resolve(): path for path in read if path is not None}
    outputs: set[Path] = set()
    for path in written:
        if path is None:
            continue
        place = path.resolve()
        if place in inputs:
            raise OutputError(f"{path}: is read by this run ({inputs[place]}) and cannot be written by it")
        if place in outputs:
            raise OutputError(f"{path}: is to be written twice; give each output a file of its own")
        outputs.add(place)
