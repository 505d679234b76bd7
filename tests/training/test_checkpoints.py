"""Checkpoints: a killed run goes on to the same end, and none is ever half there."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from ecustream.errors import ConfigError, InputError, OutputError
from tests.training.resumable import NAMES, run
from tests.training.tiny_runs import RECIPE, new, recipe, same, trained
from training.bodies import Body
from training.budget import Budget
from training.checkpoints import Checkpoints, Progress

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of runs that were killed after step 8."""
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/training/resumable.py"), str(folder), "8"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", NAMES)
def test_a_killed_run_goes_on_to_the_same_end(name: str, killed: Path) -> None:
    """SIGKILL after step 8; the resumed run has the weights and numbers of one never killed, bit for bit."""
    work = killed / name
    assert names(work) == ["step-5"]
    resumed, whole = run(name, work, resume=True), run(name, None)
    same(resumed.model.state_dict(), whole.model.state_dict(), atol=0)
    numbers, expected = (msgspec.structs.asdict(made.outcome) for made in (resumed, whole))
    assert numbers.pop("seconds") > 0
    assert expected.pop("seconds") > 0
    assert numbers == expected
    assert names(work) == ["step-10", "step-12"]


def test_ctrl_c_waits_for_a_checkpoint(tmp_path: Path) -> None:
    """The step is finished and saved, whenever a checkpoint is due; resuming says where it goes on."""
    told: list[str] = []

    def press(done: int, total: int, text: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trained(new(), recipe(save_every=100), work=tmp_path, progress=press)
    assert signal.getsignal(signal.SIGINT) is before
    assert names(tmp_path) == ["step-2"]
    resumed = new()
    trained(resumed, recipe(save_every=100), work=tmp_path, resume=True, say=told.append)
    whole = new()
    trained(whole, recipe(save_every=100))
    same(resumed.state_dict(), whole.state_dict(), atol=0)
    assert told[1:] == ["resumed at step 2"]


def test_resuming_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    """It begins anew."""
    told: list[str] = []
    assert trained(new(), recipe(max_steps=1), work=tmp_path, resume=True, say=told.append).steps == 1
    assert told[1:] == ["there is no checkpoint yet: beginning anew"]


def test_resuming_goes_on_and_does_not_start_again(tmp_path: Path) -> None:
    """Only the steps that are left are done; time and FLOPs of before count."""
    trained(new(), recipe(max_steps=6, save_every=3), work=tmp_path)
    state = tmp_path / "checkpoints/step-6/state.json"
    told = msgspec.json.decode(state.read_bytes())
    told["progress"]["seconds"] = 1000.0
    state.write_bytes(msgspec.json.encode(told))
    steps: list[Any] = []
    budget = Budget(10**18)
    again = trained(
        new(),
        recipe(max_steps=8, save_every=3),
        work=tmp_path,
        resume=True,
        budget=budget,
        progress=lambda *what: steps.append(what),
    )
    assert (len(steps), again.steps) == (2, 8)
    assert again.seconds > 1000
    assert budget.spent == again.flops
    one = trained(new(), recipe(max_steps=1))
    assert again.flops == 8 * one.flops


def test_a_finished_run_is_not_trained_on(tmp_path: Path) -> None:
    """Resumed when nothing is left to do, it gives its best weights back."""
    model, again = new(), new()
    first = trained(model, work=tmp_path)
    second = trained(again, work=tmp_path, resume=True)
    assert second == msgspec.structs.replace(first, seconds=second.seconds)
    same(again.state_dict(), model.state_dict(), atol=0)


def test_a_run_that_lost_patience_stays_so(tmp_path: Path) -> None:
    """Resumed from the checkpoint of its last step, it does not train on."""
    impatient = recipe(max_steps=40, evaluate_every=1, patience=2, save_every=1, learning_rate=1e-9)
    first = trained(new(), impatient, work=tmp_path)
    again = trained(new(), impatient, work=tmp_path, resume=True)
    assert (first.stopped, again.stopped, again.steps) == ("validation", "validation", first.steps)


def test_resuming_without_a_checkpoint_starts_anew(tmp_path: Path) -> None:
    """As if `resume` had not been said."""
    model, other = new(), new()
    trained(model, work=tmp_path, resume=True)
    trained(other)
    same(model.state_dict(), other.state_dict(), atol=0)


def test_another_run_is_not_overwritten(tmp_path: Path) -> None:
    """A folder with checkpoints is refused unless they are to be gone on with."""
    trained(new(), work=tmp_path)
    with pytest.raises(OutputError, match="holds checkpoints of another run; resume it, or remove them"):
        trained(new(), work=tmp_path)


@pytest.mark.parametrize("changes", [{"seed": 9}, {"batch": 4}, {"optimiser": "galore"}, {"drop_lines": 0.5}])
def test_another_recipe_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    """Its data or its optimiser would be others; the sentence names the key."""
    trained(new(), work=tmp_path)
    with pytest.raises(ConfigError, match=f"step-6: was written with recipe.{next(iter(changes))}"):
        trained(new(), recipe(**changes), work=tmp_path, resume=True)


def test_another_model_is_refused(tmp_path: Path) -> None:
    """A checkpoint of another size or kind names itself."""
    trained(new(), work=tmp_path)
    for body in (Body(hidden=24, layers=2, heads=2, inner=32, window=8), Body(kind="mamba", hidden=16)):
        with pytest.raises(ConfigError, match="step-6: the checkpoint is of another model"):
            trained(new(body), work=tmp_path, resume=True)


@pytest.mark.parametrize("name", ["tensors.pt", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "garbage", "gone", "empty"])
def test_a_damaged_checkpoint_is_named(name: str, damage: str, tmp_path: Path) -> None:
    """However it is damaged, in one sentence; without it the one before is taken."""
    trained(new(), recipe(save_every=2), work=tmp_path)
    path = tmp_path / "checkpoints/step-6" / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(
            {"cut": content[: len(content) // 2], "garbage": b"\x93" * 999, "empty": b""}[damage]
        )
    with pytest.raises(InputError, match="step-6: this checkpoint is damaged"):
        trained(new(), recipe(save_every=2), work=tmp_path, resume=True)
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()
    assert trained(new(), recipe(save_every=2), work=tmp_path, resume=True).steps == 6


def test_a_kill_while_writing_leaves_no_checkpoint(tmp_path: Path) -> None:
    """Only a folder of another name, which the next start removes; the one before is gone on with."""
    trained(new(), recipe(max_steps=3), work=tmp_path)
    code = (
        "import os, signal; from pathlib import Path; from training.checkpoints import *; "
        "from training.recipe import Recipe; "
        "files = Checkpoints(Path('checkpoints')); files.begin(4); "
        "files.write(Recipe(), Progress(step=4), 1, {}, None, {}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert names(tmp_path) == [".step-4.partial", "step-3"]
    assert Checkpoints(tmp_path / "checkpoints").steps() == [3]
    outcome = trained(new(), work=tmp_path, resume=True)
    assert outcome.steps == 6
    assert names(tmp_path) == ["step-3", "step-6"]


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    """By number, not by name: step 10 is newer than step 9."""
    files = Checkpoints(tmp_path / "checkpoints")
    for step in (8, 9, 10, 11):
        files.begin(step)
        files.write(RECIPE, Progress(step=step), 1, {"a": torch.ones(2)}, None, {})
        files.finish(step)
    assert files.steps() == [10, 11]
    assert names(tmp_path) == ["step-10", "step-11"]
    found = files.read(11, RECIPE, 1)
    assert (found.progress.step, found.best) == (11, None)
    assert torch.equal(found.weights["a"], torch.ones(2))


def test_a_file_where_the_folder_should_be_is_told(tmp_path: Path) -> None:
    """One sentence that names it."""
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(OutputError, match="checkpoints: cannot write a checkpoint"):
        trained(new(), work=tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 400 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a full disk needs the right to mount a small file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_for_carried_state_is_told(small_disk: Path) -> None:
    """The state of the lanes is written first, and finds no room."""
    (small_disk / "other").write_bytes(b"x" * 99 * 4096)  # a page is left
    with pytest.raises(
        OutputError, match=r"carried-0\.pt: cannot write the carried state: .*[Nn]o space left"
    ):
        run("carried", small_disk)
    assert names(small_disk) == []


@pytest.mark.parametrize("room", [0, 30_000, 200_000])
def test_a_full_disk_is_told_and_leaves_no_half_checkpoint(small_disk: Path, room: int) -> None:
    """The disk is full at once, within a file, or only when the third checkpoint is written."""
    (small_disk / "other").write_bytes(b"x" * (380_000 - room))
    with pytest.raises(OutputError, match=r"checkpoint: .*[Nn]o space left on device") as caught:
        trained(new(), recipe(save_every=1), work=small_disk)
    assert str(small_disk / "checkpoints") in str(caught.value)
    left = [path for path in names(small_disk) if path != "other"]
    assert all(name.startswith("step-") for name in left)
    (small_disk / "other").unlink()
    assert trained(new(), recipe(save_every=3), work=small_disk, resume=True).steps == 6


def test_galore_has_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra; the sentence says which."""
    monkeypatch.setitem(sys.modules, "galore_torch", None)
    with pytest.raises(ConfigError, match=r"pip install 'ecustream\[galore\]'"):
        trained(new(), recipe(optimiser="galore"))


def test_no_thread_is_left() -> None:
    """Training starts none that outlives it."""
    before = threading.active_count()
    trained(new())
    assert threading.active_count() == before


def names(work: Path) -> list[str]:
    """What lies among the checkpoints."""
    folder = work / "checkpoints"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
