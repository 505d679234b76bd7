"""Outputs never replace what a run reads."""

from pathlib import Path

import pytest

from ecustream.errors import OutputError
from ecustream.run.clashes import refuse_clashes


def test_an_output_that_is_an_input_is_refused_by_whatever_name(tmp_path: Path) -> None:
    """Also through a link or a detour, and before the recording is touched."""
    trace, link = tmp_path / "t.pcapng", tmp_path / "link.csv"
    trace.write_bytes(b"precious")
    link.symlink_to(trace)
    for path in (trace, link, tmp_path / "x" / ".." / "t.pcapng"):
        with pytest.raises(OutputError, match="is read by this run"):
            refuse_clashes([None, trace], [tmp_path / "new.csv", path])
    assert trace.read_bytes() == b"precious"


def test_two_outputs_in_one_file_are_refused(tmp_path: Path) -> None:
    """Each output needs a file of its own; one that was not asked for needs none."""
    with pytest.raises(OutputError, match="is to be written twice"):
        refuse_clashes([], [tmp_path / "a", None, tmp_path / "a"])
    refuse_clashes([tmp_path / "t"], [None, None, tmp_path / "a", tmp_path / "b"])
