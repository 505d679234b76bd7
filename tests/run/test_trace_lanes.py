"""Traces as lanes."""

import threading
from pathlib import Path

import pytest

from ecustream.config import load_config
from ecustream.errors import ConfigError, InputError
from ecustream.run.trace_lanes import open_lanes, trace_names
from ecustream.scoring.manifest import read_bundle
from ecustream.stages import StageClock


def test_names_tell_traces_apart() -> None:
    """A file name is enough where it is the only one, else as many folders as it takes."""
    assert trace_names([Path("a/x.pcap")]) == ["x.pcap"]
    assert trace_names([Path("a/x.pcap"), Path("a/y.pcap")]) == ["x.pcap", "y.pcap"]
    assert trace_names([Path("/r/a/x"), Path("/r/b/x"), Path("/r/b/y")]) == ["a/x", "b/x", "b/y"]
    assert trace_names([Path("/r/a/b/x"), Path("/s/a/b/x")]) == ["r/a/b/x", "s/a/b/x"]


def test_a_trace_given_twice_is_refused() -> None:
    """Its events could not be told apart."""
    with pytest.raises(ConfigError, match=r"x\.pcap: is given twice"):
        trace_names([Path("x.pcap"), Path("y.pcap"), Path.cwd() / "x.pcap"])


def test_a_trace_that_cannot_be_read_is_refused(clean_trace: Path, bundle_path: Path, tmp_path: Path) -> None:
    """One bad trace among good ones refuses the run, by its name."""
    bad = tmp_path / "letter.pcap"
    bad.write_text("this is no capture, it is a letter to a friend")
    info = read_bundle(bundle_path).info
    with pytest.raises(InputError, match=r"letter\.pcap"):
        open_lanes(load_config(), info, [clean_trace, bad], threading.Condition(), StageClock(enabled=False))
