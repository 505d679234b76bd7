"""What the rows start ends with them, also where they are interrupted or killed."""

import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

from tests.namespaces import wait_for
from tests.reliability import stall
from tests.reliability.command import ROOT
from tests.reliability.disks import mounted
from tests.reliability.row import Skipped
from tests.reliability.sender import sent_by

HOLDER = """
import pathlib, sys
from tests.reliability import disks
with disks.mounted(pathlib.Path(sys.argv[1]), 1 << 20) as disk:
    print(disk.outside.parts[2], flush=True)
    sys.stdin.read()
"""


def test_a_sender_that_is_no_more_waited_for() -> None:
    """It is killed, so that it does not go on sending."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(10)"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        with (
            mock.patch.object(process, "communicate", side_effect=KeyboardInterrupt),
            pytest.raises(KeyboardInterrupt),
        ):
            sent_by(process)
        assert process.returncode == -9


def test_an_interrupted_stall_lets_the_scorer_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the run would wait for it for minutes."""
    gate = stall.Gate()

    def interrupted(seconds: float) -> None:
        scorer.start()
        wait_for(lambda: not gate._shut.is_set())
        raise KeyboardInterrupt

    scorer = threading.Thread(target=gate.pass_through, args=([], False), daemon=True)
    monkeypatch.setattr(stall, "time", SimpleNamespace(sleep=interrupted, monotonic=time.monotonic))
    with pytest.raises(KeyboardInterrupt):
        gate.stall(600)
    monkeypatch.undo()
    scorer.join(20)
    assert not scorer.is_alive()


def test_a_disk_goes_with_the_process_that_mounted_it(tmp_path: Path) -> None:
    """Also where that is killed and can clear nothing up."""
    try:
        with mounted(tmp_path / "probe", 1 << 20):
            pass
    except Skipped as why:
        pytest.skip(str(why))
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "disk")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        holder = Path("/proc") / process.stdout.readline().decode().strip()
        assert "tmpfs" in (holder / "mounts").read_text()
        process.kill()
    wait_for(lambda: not holder.exists() or _over(holder))


def _over(holder: Path) -> bool:
    """Whether it has ended, and only its parent has not yet asked how."""
    time.sleep(0.02)
    try:
        return (holder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
