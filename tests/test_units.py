"""The files for systemd: parsed, commented line by line, and judged by systemd where it is installed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer.main

from ecustream.cli import app

SYSTEMD = Path(__file__).parent.parent / "systemd"
LIVE = SYSTEMD / "ecustream@.service"
REPLAY = SYSTEMD / "ecustream-replay@.service"
GPU = SYSTEMD / "ecustream@.service.d" / "gpu.conf.example"
UNITS = (LIVE, REPLAY, GPU)
SNIPPETS = (SYSTEMD / "sysusers.d" / "ecustream.conf", SYSTEMD / "tmpfiles.d" / "ecustream.conf")
PROGRAM = "/opt/ecustream/bin/ecustream"
COUNTS = {"Without it ": 1, "Without these two ": 2, "Without these three ": 3}

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed: no unit was judged"
)

Directive = tuple[str, str, str]


def directives(path: Path) -> list[Directive]:
    """(section, name, value) of each line that says something."""
    section, found = "", []
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            assert equals, f"{path.name}: {line}"
            found.append((section, name, value))
    return found


def values(path: Path, name: str) -> list[str]:
    return [value for _, other, value in directives(path) if other == name]


def promised(comments: list[str]) -> int | None:
    """For how many directives a comment speaks; None where it says nothing of what breaks."""
    text = " ".join(line.removeprefix("#").strip() for line in comments if not line.startswith("# Left out"))
    return next((count for words, count in COUNTS.items() if words in text), None)


@pytest.mark.parametrize("path", [*UNITS, *SNIPPETS], ids=lambda path: path.name)
def test_every_directive_says_what_breaks_without_it(path: Path) -> None:
    """A comment of the form `Without it …` stands before each line, `these two` before a pair."""
    comments: list[str] = []
    left: int | None = None
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            if not comments:
                assert not left, f"{path.name}: {left} directives are missing before {line!r}"
            comments.append(line)
        elif line and not line.startswith("["):
            if comments:
                left, comments = promised(comments), []
            assert left is not None, f"{path.name}: no comment says what breaks without {line!r}"
            if path in UNITS:  # elsewhere a folder may be followed by those inside it
                assert left > 0, f"{path.name}: no comment speaks of {line!r}"
            left = max(0, left - 1)
    assert not left, f"{path.name}: {left} directives are missing at the end"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_sections_are_systemds(path: Path) -> None:
    """A misspelt section would be passed over with a warning."""
    assert {section for section, _, _ in directives(path)} <= {"Unit", "Service", "Install"}


@pytest.mark.parametrize("path", [LIVE, REPLAY], ids=lambda path: path.name)
def test_commands_are_of_the_command_line(path: Path) -> None:
    """Every option in ExecStart and ExecStartPre is one that its command has."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for line in [*values(path, "ExecStart"), *values(path, "ExecStartPre")]:
        program, command, *words = line.split()
        assert program == PROGRAM
        known = {option for parameter in commands[command].params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known


def test_the_configuration_is_checked_before_it_is_used() -> None:
    """`check` reads the very file that `run` is given."""
    for path in (LIVE, REPLAY):
        (run,) = values(path, "ExecStart")
        assert values(path, "ExecStartPre") == [f"{PROGRAM} check {run.split('--config ')[1].split()[0]}"]


def test_capabilities() -> None:
    """Live capture has CAP_NET_RAW and nothing else, a replay has none."""
    assert values(LIVE, "AmbientCapabilities") == values(LIVE, "CapabilityBoundingSet") == ["CAP_NET_RAW"]
    assert values(REPLAY, "AmbientCapabilities") == []
    assert values(REPLAY, "CapabilityBoundingSet") == [""]
    assert "AF_PACKET" not in values(REPLAY, "RestrictAddressFamilies")[0]


@pytest.mark.parametrize("path", [LIVE, REPLAY], ids=lambda path: path.name)
def test_works_with_systemd_252_and_with_torch(path: Path) -> None:
    """Debian 12 knows no notify-reload, and torch on a CPU writes code while it runs."""
    assert values(path, "Type") == ["notify"]
    assert values(path, "MemoryDenyWriteExecute") == []
    assert not {"RestartSteps", "RestartMaxDelaySec"} & {name for _, name, _ in directives(path)}


def test_the_gpu_comes_by_hand_only() -> None:
    """Drop-ins that end in .conf are read; copying the folder must not open devices."""
    assert [path for path in SYSTEMD.rglob("*.service.d/*") if path.suffix == ".conf"] == []


def installed(folder: Path, *, gpu: bool = False) -> list[Path]:
    """Copies of the units whose program exists here, with the drop-in where it is asked for."""
    program = shutil.which("true")
    assert program is not None
    copies = []
    for path in (LIVE, REPLAY):
        copies.append(folder / path.name)
        copies[-1].write_text(path.read_text().replace(PROGRAM, program))
        if gpu:
            drop_in = folder / f"{path.name}.d" / "gpu.conf"
            drop_in.parent.mkdir()
            drop_in.write_text(GPU.read_text())
    return copies


def analyze(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, words)], capture_output=True, text=True, timeout=60, check=False
    )


@needs_systemd
@pytest.mark.parametrize("gpu", [False, True], ids=["cpu", "gpu"])
def test_systemd_finds_no_fault(tmp_path: Path, gpu: bool) -> None:
    """`systemd-analyze verify` says nothing at all: no unknown key, no value that is passed over."""
    for path in installed(tmp_path, gpu=gpu):
        instance = path.with_name(path.name.replace("@", "@eth1"))
        done = analyze("verify", "--man=no", instance)
        about = [line for line in (done.stdout + done.stderr).splitlines() if "ecustream" in line]
        assert (done.returncode, about) == (0, [])


@needs_systemd
def test_systemd_does_find_faults(tmp_path: Path) -> None:
    """The test before this one can fail: a misspelt key is told."""
    path = installed(tmp_path)[0]
    path.write_text(path.read_text().replace("ProtectHome=", "ProtectHomes="))
    done = analyze("verify", "--man=no", path.with_name("ecustream@eth1.service"))
    assert "ProtectHomes" in done.stdout + done.stderr


@needs_systemd
@pytest.mark.parametrize(
    ("name", "gpu", "most"),
    [
        pytest.param(LIVE.name, False, 2.0, id="live"),
        pytest.param(LIVE.name, True, 2.2, id="live-gpu"),
        pytest.param(REPLAY.name, False, 1.3, id="replay"),
    ],
)
def test_exposure(tmp_path: Path, name: str, gpu: bool, most: float) -> None:
    """The score of `systemd-analyze security` stays below the project's bounds (0 is best, 10 worst)."""
    installed(tmp_path, gpu=gpu)
    done = analyze("security", "--offline=true", "--no-pager", tmp_path / name)
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert score is not None, done.stdout + done.stderr
    assert float(score[1]) <= most
    if gpu:
        assert "char-nvidia-uvm" in done.stdout, "the drop-in was not read"
