"""The commands of `python -m training` as a user types them: what they print, write and refuse."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
import typer
from tokenizers import Tokenizer

from ecustream.cli import run_app
from ecustream.scoring.bundle import load_bundle
from ecustream.scoring.manifest import read_bundle
from training.__main__ import app
from training.adapters import releases
from training.bodies import BODIES
from training.finetune import SETTINGS
from training.objectives import OBJECTIVES
from training.recipe import RECIPES
from training.sharding import LabelKind
from training.tokenizers import KINDS

TINY_BODY = ("body.hidden=16", "body.layers=1", "body.inner=32", "body.window=32")
TINY_STEPS = ("recipe.batch=2", "recipe.evaluate_every=2", "recipe.warmup_steps=1")


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


Training = Callable[..., Done]


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Training:
    """`python -m training` with these arguments, through its own entry point."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["training", *map(str, arguments)])
        code = 0
        try:
            run_app(app, "training")
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Done(code, *capsys.readouterr())

    return run


def keys(*assignments: str) -> list[str]:
    return [part for assignment in assignments for part in ("--set", assignment)]


def refused(done: Done, sentence: str) -> None:
    """One sentence on stderr, and exit code 2."""
    said = [line for line in done.err.splitlines() if not re.match(r".+: +\d+ %", line)]
    assert done.code == 2, done
    assert len(said) == 1, done.err
    assert said[0].startswith("training: ")
    assert sentence in said[0]


@pytest.fixture
def on_traces(clean_trace: Path) -> list[object]:
    return [clean_trace, "--names", clean_trace.with_suffix(".names.csv")]


@pytest.fixture
def on_labels(faulty_trace: Path, clean_trace: Path, bundle_path: Path) -> list[object]:
    return [faulty_trace, "--model", bundle_path, "--clean", clean_trace]


class TestTokenizer:
    def test_says_what_each_kind_makes_of_traffic(
        self, training: Training, on_traces: list[object], tmp_path: Path
    ) -> None:
        """A row a kind, and a file that the tokenizers library opens."""
        done = training("tokenizer", *on_traces, "--kinds", "fields, row", "--out", tmp_path / "made")
        assert done.code == 0, done.err
        rows = {line.split()[0]: line.split() for line in done.out.splitlines()[1:]}
        assert rows.keys() == {"fields", "row"}
        assert float(rows["row"][2]) == 1
        assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["fields.json", "row.json"]
        opened = Tokenizer.from_file(str(tmp_path / "made" / "row.json"))
        assert f"{opened.get_vocab_size():,}" == rows["row"][1]

    def test_an_unknown_kind_is_refused_before_anything_is_written(
        self, training: Training, on_traces: list[object], tmp_path: Path
    ) -> None:
        """Also where it is the last one."""
        done = training("tokenizer", *on_traces, "--kinds", "fields,words", "--out", tmp_path / "made")
        refused(done, "there is no tokenizer 'words', only fields, bpe")
        assert not (tmp_path / "made").exists()


class TestPretrain:
    def test_makes_a_bundle(self, training: Training, on_traces: list[object], tmp_path: Path) -> None:
        """With the body that was asked for; what the run costs is told first and written down."""
        out = tmp_path / "bundle"
        steps = ("--steps", 3, "--seed", 5)
        done = training(
            "pretrain", *on_traces, "--out", out, *steps, "--tokenizer", "row", *keys(*TINY_BODY, *TINY_STEPS)
        )
        assert done.code == 0, done.err
        assert "plan: 3 steps of " in done.out
        bundle = load_bundle(out)
        told = bundle.info.trained
        assert (bundle.info.tokenizer, bundle.info.window_tokens) == ("row", 32)
        assert (told["body"]["hidden"], told["recipe"]["seed"], told["steps"]) == (16, 5, 3)
        assert told["flops"] > 0

    def test_resume_needs_a_folder(self, training: Training, on_traces: list[object], tmp_path: Path) -> None:
        """There is nothing to go on from."""
        done = training("pretrain", *on_traces, "--out", tmp_path / "bundle", "--resume")
        refused(done, "--resume needs --work")
        assert not (tmp_path / "bundle").exists()


class TestFinetune:
    def test_makes_the_bundle_and_the_adapter_of_a_release(
        self, training: Training, on_labels: list[object], bundle_path: Path, tmp_path: Path
    ) -> None:
        """With where they come from: base model, earlier release, settings, seed, traffic and cost."""
        shelf = ("--adapters", tmp_path / "adapters")
        small = keys(*TINY_STEPS, "finetune.rank=2", "finetune.max_clean_rise=null")
        for release, more in (("24.1", ()), ("24.2", ("--continue", "24.1"))):
            done = training(
                "finetune",
                *(*on_labels, "--out", tmp_path / release, *shelf, "--release", release),
                *("--steps", 2, "--seed", 3, *more, *small),
            )
            assert done.code == 0, done.err
            assert "plan: 2 steps of " in done.out
            assert f"{release}: 2 steps, stopped by steps" in done.out
            assert "warn" not in done.err.lower()
        assert list(releases(tmp_path / "adapters")) == ["24.1", "24.2"]
        told = load_bundle(tmp_path / "24.2").info.trained["finetuned"]
        base = read_bundle(bundle_path).info
        assert told["base"] == {"sha256": base.sha256["model.safetensors"], "finetuned": None}
        assert (told["release"], told["continued_from"], told["labels"]) == ("24.2", "24.1", "annotator")
        assert (told["settings"]["objective"], told["settings"]["rank"]) == ("mask", 2)
        assert (told["recipe"]["seed"], told["recipe"]["learning_rate"]) == (3, 5e-4)
        assert told["steps"] == 2
        assert told["flops"] == told["planned_flops"] > 0
        assert [trace["name"] for trace in told["traces"] + told["clean"]] == [
            "faulty.pcapng",
            "clean.pcapng",
        ]

    def test_both_limits_hold(self, training: Training, on_labels: list[object], tmp_path: Path) -> None:
        """Few steps within much time: the steps end it; much less time: time does, after its first step."""
        for minutes, stopped in ((10, "1 steps, stopped by steps"), (1e-5, "1 steps, stopped by time")):
            limits = ("--minutes", minutes, "--steps", 1 if minutes == 10 else 50)
            small = keys(*TINY_STEPS, "finetune.rank=2", "finetune.max_clean_rise=null")
            done = training("finetune", *on_labels, "--out", tmp_path / "out", *limits, *small)
            assert done.code == 0, done.err
            assert stopped in done.out

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (["--adapters", "adapters", "--release", "24/1"], "'24/1' cannot name a release"),
            (["--adapters", "adapters", "--release", "1", "--continue", "1"], "continued from itself"),
            (
                ["--adapters", "adapters", "--release", "2", "--continue", "1"],
                "no adapter of the release '1'",
            ),
            (["--adapters", "foreign", "--release", "1"], "foreign exists and is not an adapter"),
            (["--release", "1"], "kept with --adapters FOLDER and --release NAME"),
            (["--out", "foreign"], "foreign exists and is not a bundle"),
            (["--objective", "magic"], "'magic' is not one of ce, mask"),
            (["--settings", "best"], "only default, paper"),
            (["--set", "finetune.rank=0"], "rank and lora_alpha are 0"),
            (["--set", "finetune.alfa=1"], "finetune.alfa: there is no such key"),
            (["--steps", "0"], "recipe.max_steps is 0"),
            (["--budget-flops", "much"], "'much' is not a number of FLOPs"),
            (["--budget-flops", "1"], "the budget of 1 FLOP does not cover one step"),
            (["--replay", "missing.pcapng"], "missing.pcapng"),
            (["--model", "nowhere"], "nowhere: not a bundle"),
            (["--resume"], "--resume needs --work"),
        ],
    )
    def test_refused(
        self,
        training: Training,
        on_labels: list[object],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        options: list[str],
        sentence: str,
    ) -> None:
        """In one sentence, and nothing is written."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "foreign").touch()
        refused(training("finetune", *on_labels, "--out", "out", *keys(*TINY_STEPS), *options), sentence)
        assert [path.name for path in tmp_path.iterdir()] == ["foreign"]


class TestSearch:
    def test_pretraining_tries_settings_and_goes_on(
        self, training: Training, on_traces: list[object], tmp_path: Path
    ) -> None:
        """Two trials, then none; the report lies in the study's folder."""
        study = ("--study", tmp_path / "study", "--trials", 2, "--budget-flops", "4e9")
        options = (*study, "--seed", 1, *keys("recipe.batch=1", "recipe.crop_windows=2"))
        done = training("search", "pretrain", *on_traces, *options)
        assert done.code == 0, done.err
        assert re.findall(r"trial (\d) of 2: validation nats a line", done.out) == ["1", "2"]
        assert "trials of pre-training: 2, pruned: 0; best validation nats a line" in done.out
        found = json.loads((tmp_path / "study" / "trials.json").read_text())
        assert [tried["number"] for tried in found["trials"]] == [1, 2]
        again = training("search", "pretrain", *on_traces, *options)
        assert again.code == 0
        assert "of 2:" not in again.out

    def test_finetuning_needs_a_bundle(self, training: Training, faulty_trace: Path, tmp_path: Path) -> None:
        """And clean traffic; no study is begun without."""
        done = training("search", "finetune", faulty_trace, "--study", tmp_path / "study")
        refused(done, "search finetune needs --model BUNDLE, which has the names, and --clean TRACE")
        assert not (tmp_path / "study").exists()

    def test_a_budget_that_is_no_number_is_refused(
        self, training: Training, on_traces: list[object], tmp_path: Path
    ) -> None:
        """Before traffic is read."""
        done = training("search", "pretrain", *on_traces, "--study", tmp_path / "s", "--budget-flops", "all")
        refused(done, "'all' is not a number of FLOPs")


class TestCompare:
    def test_models(self, training: Training, on_traces: list[object]) -> None:
        """A row a contender; each is told as it is there."""
        contenders = ("--contenders", "row:0.3m:32,fields:0.3m:32")
        done = training(
            "compare", "models", *on_traces, *contenders, "--steps", 2, "--json", *keys(*TINY_STEPS)
        )
        assert done.code == 0, done.err
        report: dict[str, Any] = json.loads(done.out)
        assert [row["contender"] for row in report["rows"]] == ["row:0.3m:32", "fields:0.3m:32"]
        assert [row["stopped"] for row in report["rows"]] == ["steps", "steps"]
        assert report["by_frequencies_nats_per_line"] > 1
        assert "row:0.3m:32: " in done.err

    def test_models_for_the_same_flops(self, training: Training, on_traces: list[object]) -> None:
        """Time does not end what is compared by FLOPs."""
        options = ("--contenders", "row:0.3m:32", "--budget-flops", "2e9", "--json")
        done = training("compare", "models", *on_traces, *options, *keys(*TINY_STEPS))
        assert done.code == 0, done.err
        (row,) = json.loads(done.out)["rows"]
        assert row["stopped"] == "budget"
        assert 0 < row["flops"] <= 2e9

    def test_objectives(self, training: Training, on_labels: list[object]) -> None:
        """One that clean traffic does not bear has the figures of the model before, and the rest goes on."""
        options = ("--objectives", "entropy,mask", "--steps", 4, "--json")
        small = keys(*TINY_STEPS, "finetune.rank=2", "finetune.alpha=30", "finetune.learning_rate=3e-3")
        done = training("compare", "objectives", *on_labels, *options, *small)
        assert done.code == 0, done.err
        before, entropy, mask = json.loads(done.out)["rows"]
        assert (before["objective"], entropy["objective"], mask["objective"]) == (
            "(before)",
            "entropy",
            "mask",
        )
        assert (entropy["stopped"], entropy["steps"]) == ("clean traffic", 0)
        assert entropy["faulty"] == before["faulty"] != mask["faulty"]
        assert "entropy: nothing was gained" in done.err

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (["--objectives", "mask,magic"], "'magic' is not one of ce, mask"),
            (
                ["--objectives", "paper", "--set", "finetune.alpha=2"],
                "alpha of objective 'paper' must be at most 1",
            ),
            (["--model", "nowhere"], "nowhere: not a bundle"),
        ],
    )
    def test_objectives_are_checked_first(
        self, training: Training, on_labels: list[object], options: list[str], sentence: str
    ) -> None:
        """Nothing is trained for a comparison that cannot be finished."""
        done = training("compare", "objectives", *on_labels, *options)
        refused(done, sentence)
        assert "steps in" not in done.err

    def test_unknown_contender(self, training: Training, on_traces: list[object]) -> None:
        """The sentence lists what there is."""
        refused(
            training("compare", "models", *on_traces, "--contenders", "fields:7b"), "tokenizers are fields"
        )


def help_of(command: str, option: str) -> tuple[str, Any]:
    """Help text and default of an option."""
    group: Any = typer.main.get_command(app)
    (found,) = [p for p in group.commands[command].params if option in p.opts]
    return found.help or "", found.default


def listed(text: str) -> list[str]:
    """The names in `a, b or c`."""
    return re.findall(r"[\w.-]*\w", text.replace(" or ", ", "))


class TestHelp:
    @pytest.mark.parametrize(
        ("command", "option", "names"),
        [
            ("pretrain", "--tokenizer", KINDS),
            ("pretrain", "--body", BODIES),
            ("pretrain", "--recipe", RECIPES),
            ("finetune", "--settings", SETTINGS),
            ("finetune", "--objective", OBJECTIVES),
            ("search", "--tokenizer", KINDS),
        ],
    )
    def test_lists_the_names_that_there_are(self, command: str, option: str, names: Any) -> None:
        """All of them, in their order."""
        assert listed(help_of(command, option)[0].removeprefix("pretrain: ")) == list(names)

    @pytest.mark.parametrize(
        ("command", "option", "names"),
        [("tokenizer", "--kinds", KINDS), ("compare", "--objectives", OBJECTIVES)],
    )
    def test_default_is_all_of_them(self, command: str, option: str, names: Any) -> None:
        """Separated by commas."""
        assert help_of(command, option)[1].split(",") == list(names)

    def test_labels_are_of_two_kinds(self) -> None:
        """Each is named by the file that it is read from."""
        assert re.findall(r"X\.(\w+)\.jsonl", help_of("finetune", "--labels")[0]) == list(get_args(LabelKind))
