"""The command that measures the table: what it prints, and what it leaves behind."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.namespaces import needs_network, wait_for
from tests.reliability import __main__ as command
from tests.reliability.row import Row, Scale, Skipped, amount, times

ROOT = Path(__file__).resolve().parents[2]


def fails(scale: Scale, folder: Path) -> Row:
    """A row that cannot be measured to its end."""
    raise ValueError("not a | number,\nnor a word")


def skipped(scale: Scale, folder: Path) -> Row:
    """A row that this machine cannot show."""
    raise Skipped("there is one core only")


def holds(scale: Scale, folder: Path) -> Row:
    """A row that holds."""
    return Row("it runs", scale, "yes", True)


def breaks(scale: Scale, folder: Path) -> Row:
    """A row that does not hold."""
    return Row("it runs", scale, "no", False)


def interrupted(scale: Scale, folder: Path) -> Row:
    """Somebody presses Ctrl-C."""
    raise KeyboardInterrupt


def rows_of(out: str) -> list[str]:
    """The rows below the head of the printed table."""
    return out.partition("|---|---|---|---|\n")[2].splitlines()


def test_a_row_that_fails_is_told_and_the_others_are_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It does not hold; its error stays in its cell of the table."""
    monkeypatch.setattr(command, "MEASURES", {"a": fails, "b": holds})
    assert command.main(["--short"]) == 1
    printed = capsys.readouterr()
    failed = "| a |  | failed: ValueError: not a / number, nor a word | **no** |"
    assert rows_of(printed.out) == [failed, "| it runs | short | yes | yes |"]
    assert "Traceback" in printed.err


def test_exit_codes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """0 where all that could be measured holds, 1 where something does not, 2 for a row that is not there."""
    monkeypatch.setattr(command, "MEASURES", {"a": skipped, "b": holds, "c": breaks})
    assert command.main(["a", "b"]) == 0
    said = rows_of(capsys.readouterr().out)
    assert said == [
        "| a |  | not measured: there is one core only | not measured |",
        "| it runs | long | yes | yes |",
    ]
    assert command.main(["c", "b"]) == 1
    assert rows_of(capsys.readouterr().out)[0] == "| it runs | long | no | **no** |"
    with pytest.raises(SystemExit, match="2"):
        command.main(["d"])


def test_no_row_after_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """130, as a shell has it."""
    monkeypatch.setattr(command, "MEASURES", {"a": interrupted, "b": holds})
    assert command.main([]) == 130
    assert rows_of(capsys.readouterr().out) == []


@needs_network
@pytest.mark.parametrize(("row", "number"), [("burst", signal.SIGTERM), ("disk_full", signal.SIGINT)])
def test_nothing_is_left_behind(row: str, number: int, tmp_path: Path) -> None:
    """Neither namespace nor process, mount or file, when it is interrupted in the midst of a row."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    given = [sys.executable, "-m", "tests.reliability", row]
    process = subprocess.Popen(
        given, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        # Reader and sender, or the holder of a disk and a run.
        wait_for(lambda: len(descendants(process.pid)) >= 2, 30)
        # In the instant of its start a process is known to nobody yet.
        time.sleep(0.3)
        started = descendants(process.pid)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert err.endswith(f"{row}: interrupted\n")
    assert not list(Path("/run/netns").glob(f"ecustream-*-{process.pid}"))
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    assert not list(tmp_path.iterdir())


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, but for `ip`, which ends by itself."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, re.findall(r"\d+", task.read_text())):
            try:
                name = Path(f"/proc/{child}/comm").read_text().strip()
            except FileNotFoundError:
                continue
            found += [child] if name != "ip" else []
    return found


def test_counts_in_words() -> None:
    """A table that a person reads has no `1 times`."""
    assert [times(1), times(3)] == ["once", "3 times"]
    assert [amount(0), amount(1234)] == ["none", "1,234"]
