"""The command with no more rights than the units leave it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.confinement import confined, needs_confinement
from tests.namespaces import cable, needs_network, sender, wait_for
from tests.run.test_live_lanes import frames_of
from tests.run.test_live_service import captures

UNITS = Path(__file__).parents[1] / "systemd"
pytestmark = [needs_network, needs_confinement]


@pytest.fixture(autouse=True)
def network() -> Iterator[str]:
    """A cable with the ends `a0` and `b0`, and the loopback interface."""
    with cable("confined") as name:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield name


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder that another user can reach, which those of pytest are not."""
    folder = Path(subprocess.check_output(["mktemp", "-d", "/tmp/confined.XXXXXX"], text=True).strip())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def run(
    unit: str, folder: Path, *words: str, errors: int | IO[str] = subprocess.PIPE
) -> "subprocess.Popen[str]":
    """`ecustream` with the rights of that unit."""
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "CREDENTIALS_DIRECTORY": str(folder),
    }
    return subprocess.Popen(
        confined(UNITS / unit, folder, [sys.executable, "-m", "ecustream", *words]),
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env=environment,
    )


def test_live_capture_needs_no_more(clean_trace: Path, bundle_path: Path, place: Path) -> None:
    """Captured, scored, published on both kinds of sockets, journalled, reloaded and stopped."""
    bundle = place / "bundle"
    shutil.copytree(bundle_path, bundle)
    (place / "b0.toml").write_text(
        f'[scoring]\nmodel = "{bundle}"\n[input]\nsource = "ETH1"\n'
        f'[publish]\njournal = "{place}/journal"\npub = "ipc://{place}/pub"\nreply = "tcp://127.0.0.1:*"\n'
        "[metrics]\nport = 0\n"
    )
    options = ("--interface", "b0", "--config", str(place / "b0.toml"), "--score-log", f"{place}/scores.csv")
    said = place / "said"
    with said.open("w") as errors:
        process = run(
            "ecustream@.service", place, "run", *options, "--events", f"{place}/events.jsonl", errors=errors
        )
    try:
        wait_for(lambda: captures() or process.poll() is not None, 60)
        if process.poll() is None:
            with sender("a0") as wire:
                for frame in frames_of(clean_trace)[:500]:
                    wire.send(frame.data)
            process.send_signal(signal.SIGHUP)
            wait_for(lambda: "the bundle was replaced" in said.read_text() or process.poll() is not None, 60)
    finally:
        process.terminate()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said.read_text()
    assert "the ledger balances" in out
    assert [line for line in out.splitlines() if line.startswith("frames ")] != []
    assert len((place / "scores.csv").read_text().splitlines()) > 500
    assert (place / "events.jsonl").exists()
    assert list((place / "journal").iterdir())


def test_a_replay_needs_no_capability(faulty_trace: Path, bundle_path: Path, place: Path) -> None:
    """Nor anything of the file system but its own folders."""
    trace, bundle = place / "trace.pcap", place / "bundle"
    shutil.copy(faulty_trace, trace)
    shutil.copytree(bundle_path, bundle)
    events = place / "events.jsonl"
    options = ("--pcap", str(trace), "--model", str(bundle), "--events", str(events))
    process = run("ecustream-replay@.service", place, "run", *options, "--pub", f"ipc://{place}/pub")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert [json.loads(line)["seq"] for line in events.read_text().splitlines()][:1] == [1]


def test_a_replay_may_not_capture(bundle_path: Path, place: Path) -> None:
    """So the confinement of these tests does confine."""
    process = run("ecustream-replay@.service", place, "run", "--interface", "b0", "--no-publish")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.startswith("ecustream: interface b0: ")


def test_a_configuration_is_checked_with_what_is_handed_over(place: Path) -> None:
    """`ExecStartPre` gets the credentials as well."""
    (place / "eth1.toml").write_text(
        '[publish]\ncurve_secret = "credential:curve"\ncurve_clients = "readers"\n'
    )
    keys = [sys.executable, "-m", "ecustream", "keys", "new", "bench", "--dir", str(place)]
    subprocess.run(keys, check=True, capture_output=True)
    (place / "readers").mkdir()
    shutil.copy(place / "bench.public", place / "readers")
    secret = (place / "bench.secret").rename(place / "curve")
    secret.chmod(0o400)
    shutil.chown(secret, 65534, 65534)
    process = run("ecustream@.service", place, "check", str(place / "eth1.toml"))
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, f"{place}/eth1.toml: valid\n"), errors
