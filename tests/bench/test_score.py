"""The bench of scoring measures what it says, and notices a network that scores otherwise."""

import dataclasses
import io
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from ecustream.bench import bodies as bench_bodies
from ecustream.bench import capture as bench
from ecustream.bench import events as bench_events
from ecustream.bench import products as bench_products
from ecustream.bench import score as bench_score
from ecustream.bench.contest import OURS, OWN_WHOLE, ROLLING, WHOLE, Contest
from ecustream.bench.products import MachineProducts
from ecustream.bench.score import Plan
from ecustream.bench.shares import KINDS, kind_of, work_shares
from ecustream.bench.tables import disagreements, render_score
from ecustream.cli import app
from ecustream.errors import ConfigError
from ecustream.knowledge import DEMO_BUNDLE
from ecustream.scoring.batched import BatchedQwen2
from ecustream.scoring.network import AnyNetwork
from ecustream.scoring.qwen2 import Qwen2
from tests.bench.tiny import TINY, TINY_TOKENS, with_tokens

PLAN = Plan(chunks=(1, 8), rates=(50, 1e9), repetitions=2, cell_s=0.002, paced_s=0.2, paced_chunk=16)
CPU = torch.device("cpu")


def measured(model: Path | None, *names: str, plan: Plan = PLAN, **options: Any) -> dict[str, Any]:
    """A short run of the bench with two tiny bodies to choose from."""
    with pytest.MonkeyPatch.context() as patch:
        only = {"tiny": TINY, "tiny tokens": TINY_TOKENS}
        for module in (bench_bodies, bench_score):
            patch.setattr(module, "BODIES", only)
        # Large squares bring a bound that is nearer to the truth, and take seconds.
        patch.setattr(bench_products, "_CPU_SQUARES", (64,))
        patch.setattr(bench_score, "_PROFILED_CALLS", 5)
        return bench_score.bench_score(model, names, plan=plan, **{"threads": 1, **options})


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """The shipped bundle, and a body of each kind of traffic."""
    return measured(DEMO_BUNDLE, "tiny", "tiny tokens")


def speed_of(body: Mapping[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
    """Rows of speed by contender and chunk."""
    return {(row["who"], row["chunk_lines"]): row for row in body["speed"]}


def test_every_body_has_the_documented_figures(report: dict[str, Any]) -> None:
    """Each key of the documentation is there, and the whole is JSON."""
    assert set(report) == {"machine", "load", "versions", "device", "threads", "plan", "bodies"}
    assert (report["device"], report["threads"]) == ("cpu", 1)
    assert report["versions"]["torch"] == torch.__version__
    assert [body["name"] for body in report["bodies"]] == [str(DEMO_BUNDLE), "tiny", "tiny tokens"]
    documented = {
        *("name", "note", "parameters", "layers", "hidden", "window", "vocab", "tokens_per_line", "dtype"),
        *("serving", "flops_per_token", "speed", "best", "best_is", "products", "of_products", "latency"),
        *("agreement", "work", "attention"),
    }
    for body in report["bodies"]:
        assert set(body) == documented
        assert body["note"] is None
        assert body["serving"] == "rolling"
        assert body["dtype"] == "float32"
    assert [body["tokens_per_line"] for body in report["bodies"]] == [2, 2, 5]
    assert [body["window"] for body in report["bodies"]] == [256, 24, 24]
    assert json.loads(json.dumps(report))["plan"]["chunks"] == [1, 8]


def test_speeds_follow_from_one_another(report: dict[str, Any]) -> None:
    """Tokens, times and ratios are those of the lines per second, at every chunk of every contender."""
    for body in report["bodies"]:
        rows = speed_of(body)
        assert set(rows) == {(OURS, 1), (OURS, 8), (ROLLING, 1), (ROLLING, 8), (WHOLE, 1), (OWN_WHOLE, 1)}
        for (_, chunk), row in rows.items():
            rate = row["lines_per_s"]
            assert 0 < row["lines_per_s_median"] <= rate
            assert row["tokens_per_s"] == pytest.approx(rate * body["tokens_per_line"])
            assert row["ms_per_call"] == pytest.approx(1000 * chunk / rate)
            assert row["ours_is"] == pytest.approx(rows[OURS, chunk]["lines_per_s"] / rate)
        best = max(rows[OURS, 1]["lines_per_s"], rows[OURS, 8]["lines_per_s"])
        assert body["best"]["lines_per_s"] == best
        assert body["best_is"][WHOLE] == pytest.approx(best / rows[WHOLE, 1]["lines_per_s"])
        theirs = max(rows[ROLLING, 1]["lines_per_s"], rows[ROLLING, 8]["lines_per_s"])
        assert body["best_is"][ROLLING] == pytest.approx(best / theirs)
        flops_per_s = body["best"]["tokens_per_s"] * body["flops_per_token"]
        assert body["of_products"] == pytest.approx(flops_per_s / body["products"]["flops_per_s"])


class SlowLane:
    """Takes 2 ms and 1 ms a line, whatever the network."""

    def __init__(self, network: AnyNetwork) -> None:
        self.lines = 0

    def score(self, lines: int) -> None:
        """Take the time."""
        self.lines += lines
        time.sleep(0.002 + 0.001 * lines)

    def nats(self, lines: int) -> npt.NDArray[np.float32]:
        """Take the time, and say nothing."""
        self.score(lines)
        return np.zeros(2 * lines, np.float32)

    def reset(self) -> None:
        """There is nothing to forget."""


def test_rates_count_every_line_and_all_of_the_time() -> None:
    """A contender that takes 3 ms for one line and 10 ms for eight has no higher rate than that."""
    body = dataclasses.replace(with_tokens(), open_lane=SlowLane)
    network = Qwen2(body.config, body.weights)
    contest = Contest(body, network, device=CPU, dtype=torch.float32, chunks=(1, 8), longest_call_s=1)
    contest.warm()
    ours = contest.ours
    assert isinstance(ours, SlowLane)
    lines = ours.lines
    contest.round(0.03)
    assert ours.lines - lines >= 9
    rates = {key: row["lines_per_s"] for key, row in speed_of({"speed": contest.rows()}).items()}
    for (_, chunk), rate in rates.items():
        assert 0 < rate <= chunk / (0.002 + 0.001 * chunk)


def test_scores_agree_with_transformers(report: dict[str, Any]) -> None:
    """The rolling cache is compared beyond the window, whole windows over the last lines."""
    for body in report["bodies"]:
        rolling, whole = body["agreement"]
        assert (rolling["with"], whole["with"]) == (ROLLING, WHOLE)
        assert rolling["tokens"] >= 3 * body["window"] + 1024
        assert whole["tokens"] == 3 * body["tokens_per_line"]
        for row in (rolling, whole):
            assert row["agrees"] is True
            assert 0 <= row["mean_nats"] <= row["max_nats"] <= row["tolerance_nats"] == 1e-3
    assert disagreements(report) == []


def perturbed(config: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> AnyNetwork:
    """A network one of whose weights is off by a little."""
    changed = dict(weights)
    name = "model.layers.1.mlp.up_proj.weight"
    changed[name] = changed[name] * 1.05
    return Qwen2(config, changed)


def narrower(config: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> AnyNetwork:
    """A network whose window is one token short."""
    return Qwen2({**config, "sliding_window": config["sliding_window"] - 1}, weights)


@pytest.mark.parametrize(("wrong", "both"), [(perturbed, True), (narrower, False)])
def test_a_wrong_network_does_not_agree(wrong: bench_score.NetworkFactory, both: bool) -> None:
    """Neither a weight nor the window may be off; the report says so in a sentence."""
    plan = Plan(chunks=(1,), rates=(), repetitions=1, cell_s=0)
    body = measured(None, "tiny", plan=plan, network=wrong)
    rows = body["bodies"][0]["agreement"]
    assert rows[0]["agrees"] is False
    assert rows[0]["max_nats"] > 1e-3
    assert (rows[1]["agrees"] is False) or not both
    assert disagreements(body)[0].startswith(f"tiny: its scores are not those of {ROLLING}: largest")
    assert "OTHER SCORES" in rendered(body)


def batched(config: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> AnyNetwork:
    """The network for GPUs, on the CPU."""
    return BatchedQwen2(
        config, weights, device=CPU, dtype=torch.float32, max_streams=2, max_chunk=64, graphs=False
    )


def test_the_network_for_gpus_is_measured_alike() -> None:
    """Another factory's network gets the same figures, and needs no more than two streams."""
    plan = Plan(chunks=(1, 8), rates=(50,), repetitions=1, cell_s=0, paced_s=0.1)
    for body in measured(None, "tiny", "tiny tokens", plan=plan, network=batched)["bodies"]:
        assert [row["agrees"] for row in body["agreement"]] == [True, True]
        assert body["latency"][0]["lines"] == 5
        assert body["attention"]
        assert all(row["lines_per_s"] > 0 for row in body["speed"])


def test_without_transformers_its_rows_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own rows keep their figures, and nothing is said to agree."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    report = measured(None, "tiny")
    (body,) = report["bodies"]
    rows = speed_of(body)
    for who, chunk in ((ROLLING, 1), (ROLLING, 8), (WHOLE, 1)):
        assert rows[who, chunk]["note"] == "left out: transformers is not installed"
        assert rows[who, chunk]["lines_per_s"] is None
    assert rows[OURS, 8]["lines_per_s"] > 0
    assert rows[OWN_WHOLE, 1]["lines_per_s"] > 0
    assert [row["agrees"] for row in body["agreement"]] == [None, None]
    assert disagreements(report) == []
    assert "transformers is not installed" in rendered(report)


def test_chunks_that_would_take_too_long_are_left_out() -> None:
    """The smallest chunk is always measured, larger ones only as long as a call is short."""
    plan = Plan(chunks=(1, 8, 64), rates=(), repetitions=1, cell_s=0, longest_call_s=0)
    rows = speed_of(measured(None, "tiny", plan=plan)["bodies"][0])
    for who in (OURS, ROLLING):
        assert rows[who, 1]["lines_per_s"] > 0
        assert rows[who, 8]["note"] == rows[who, 64]["note"] == "left out: a call would take more than 0 s"


def test_all_leaves_out_what_needs_a_gpu() -> None:
    """On a CPU such a body has a row that says how to measure it all the same; by name it is measured."""
    report = measured(None, "all", plan=Plan(chunks=(1,), rates=(), repetitions=1, cell_s=0))
    assert [body["name"] for body in report["bodies"]] == ["tiny", "tiny tokens"]
    assert report["bodies"][0]["note"] is None
    assert report["bodies"][1]["note"] == (
        "left out: too slow on a CPU; --body tiny tokens measures it all the same"
    )
    assert "tiny tokens: left out" in rendered(report)


def test_wrong_names_are_refused() -> None:
    """An unknown body and a device that is not there are errors of configuration."""
    with pytest.raises(
        ConfigError, match=r"^--body 3M: there is no such body; choose 4x128, 2M, 25M, 0\.4B or all$"
    ):
        bench_score.bench_score(None, ["4x128", "3M"])
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="--device cuda: torch finds no CUDA device"):
            bench_score.bench_score(None, ["4x128"], device="cuda")


def test_progress_rises_to_the_end() -> None:
    """Shares rise within and over bodies and stay below one; the notes name the body."""
    told: list[tuple[float, str]] = []
    plan = Plan(chunks=(1,), rates=(100,), repetitions=1, cell_s=0, paced_s=0.02)
    measured(
        None, "tiny", "tiny tokens", plan=plan, on_progress=lambda share, note: told.append((share, note))
    )
    shares = [share for share, _ in told]
    assert shares == pytest.approx([0, 1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8])
    assert told[0][1].startswith("tiny: ")
    assert told[4][1].startswith("tiny tokens: ")


def test_threads_are_as_asked_and_put_back() -> None:
    """The number is that of torch during the run only, also if it fails; 0 is one for each core."""
    before = torch.get_num_threads()
    assert measured(None, threads=before + 1)["threads"] == before + 1
    assert measured(None, threads=0)["threads"] == len(os.sched_getaffinity(0))
    seen = []

    def fails(config: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> AnyNetwork:
        seen.append(torch.get_num_threads())
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        measured(None, "tiny", threads=before + 1, network=fails)
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_rates_beyond_the_machine_are_left_out(report: dict[str, Any]) -> None:
    """Latency is measured at rates that can be scored, and another says why it was not."""
    for body in report["bodies"]:
        possible, impossible = body["latency"]
        assert possible["note"] is None
        assert possible["lines"] == 10
        assert 0 < possible["p50_ms"] <= possible["max_ms"]
        assert impossible["lines_per_s"] == 1e9
        assert impossible["p50_ms"] is None
        assert impossible["note"].startswith("left out: at its best it scores")


def test_products_count_two_operations_and_keep_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates are 2 m k n over the seconds; a slower measurement later changes nothing."""
    seconds = iter([0.5, 0.5, 2.0, 0.25])
    monkeypatch.setattr(MachineProducts, "_seconds", lambda self, a, b: next(seconds))
    products = MachineProducts([(3, 5, 7), (2, 4, 8)], CPU, torch.float64)
    products.measure()
    products.measure()
    report = products.report()
    assert [row["flops_per_s"] for row in report["rows"]] == [2 * 3 * 5 * 7 / 0.5, 2 * 2 * 4 * 8 / 0.25]
    assert (report["shape"], report["flops_per_s"]) == ([2, 4, 8], 512)


def test_products_are_timed_over_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seconds are those of one product, measured over so many that they take 10 ms."""
    monkeypatch.setattr(MachineProducts, "_timed", lambda self, a, b, times: 0.0004 * times)
    products = MachineProducts([(8, 8, 8)], CPU, torch.float64)
    products.measure()
    assert products.report()["flops_per_s"] == pytest.approx(2 * 512 / 0.0004)


def test_both_ways_of_products_are_measured(report: dict[str, Any]) -> None:
    """Plain products and, where it is exact here, those that scoring uses; the best is the bound."""
    for body in report["bodies"]:
        rows = body["products"]["rows"]
        assert {"plain"} <= {row["way"] for row in rows} <= {"plain", "fast_products"}
        assert body["products"]["flops_per_s"] == max(row["flops_per_s"] for row in rows)
        assert all(row["dtype"] == "float32" for row in rows)


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::addmm", "matrix products"),
        ("aten::mm", "matrix products"),
        ("aten::baddbmm", "matrix products"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n", "matrix products"),
        ("nvjet_hsh_128x64_64x9_1x2_h_bz_TNT", "matrix products"),
        ("aten::_softmax", "softmax"),
        ("aten::_log_softmax", "softmax"),
        ("aten::copy_", "copies"),
        ("aten::cat", "copies"),
        ("aten::index_select", "copies"),
        ("Memcpy DtoH (Device -> Pinned)", "copies"),
        ("aten::mul", "elementwise"),
        ("aten::silu", "elementwise"),
        ("aten::pow", "elementwise"),
        ("aten::_flash_attention_forward", "fused attention"),
        ("void flash::flash_fwd_kernel<...>", "fused attention"),
        ("aten::view", "the rest"),
        ("aten::linear", "the rest"),
        ("aten::_to_copy", "the rest"),
        ("cudaGraphLaunch", "the rest"),
    ],
)
def test_kinds_of_work(operator: str, kind: str) -> None:
    """Operators and kernels are told apart by their names."""
    assert kind_of(operator) == kind


def test_shares_are_of_the_work_that_was_done(capfd: pytest.CaptureFixture[str]) -> None:
    """Large products are products, copies are copies, sleep is the rest; shares add up to one."""
    a, b = torch.randn(500, 500), torch.empty(500, 500)

    def multiply() -> None:
        torch.mm(a, a)

    def copy() -> None:
        b.copy_(a)

    for work, kind in ((multiply, "matrix products"), (copy, "copies"), (sleep, "the rest")):
        found = work_shares(work, 20, CPU)
        assert set(found["shares"]) == set(KINDS)
        assert sum(found["shares"].values()) == pytest.approx(1, abs=0.02)
        assert max(found["shares"], key=found["shares"].__getitem__) == kind
    assert found["us_per_call"] >= 2000
    assert found["operators"] == []
    assert "profiler" not in capfd.readouterr().err


def sleep() -> None:
    """Neither torch nor numpy."""
    time.sleep(0.002)


def test_work_is_told_for_one_line_and_for_the_best_chunk(report: dict[str, Any]) -> None:
    """Every share is there, for the smallest chunk first."""
    for body in report["bodies"]:
        chunks = [row["chunk_lines"] for row in body["work"]]
        assert chunks == list(dict.fromkeys([1, body["best"]["chunk_lines"]]))
        for row in body["work"]:
            assert sum(row["shares"].values()) == pytest.approx(1, abs=0.05)
            assert row["shares"]["matrix products"] > 0
            assert {"name", "kind", "share", "calls"} == set(row["operators"][0])


def test_the_tables_fit_a_terminal_and_show_every_row(report: dict[str, Any]) -> None:
    """In 80 columns nothing is cut, and every body, contender and rate is there."""
    text = rendered(report, width=80)
    assert "…" not in text
    for body in report["bodies"]:
        assert body["name"] in text.replace("\n", "")
    for who in (ROLLING, WHOLE, OWN_WHOLE):
        assert text.count(f"│ {who} ") == sum(
            row["who"] == who for b in report["bodies"] for row in b["speed"]
        )
    assert text.count("the same scores") == 6
    assert text.count("From arrival to score") == 3
    assert text.count("matrix products") == 3


def rendered(report: dict[str, Any], width: int = 200) -> str:
    """The tables as text."""
    console = Console(file=io.StringIO(), width=width)
    console.print(render_score(report))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, report: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What the command asked the bench for; the measuring itself is over."""
    calls: list[tuple[Any, ...]] = []

    def known(model: Path | None, names: list[str], **options: Any) -> dict[str, Any]:
        calls.append((model, names, options["device"], options["threads"]))
        return report

    monkeypatch.setattr(bench_score, "bench_score", known)
    return calls


def test_the_command_prints_what_was_measured(asked: list[Any], report: dict[str, Any]) -> None:
    """`bench score` prints tables, with --json the report; by default of the shipped bundle and 4x128."""
    run = CliRunner().invoke
    assert "From arrival to score" in run(app, ["bench", "score"]).stdout
    assert json.loads(
        run(app, ["bench", "score", "--json", "--body", "2M", "--body", "25M"]).stdout
    ) == json.loads(json.dumps(report))
    run(app, ["bench", "score", "--model", "somewhere", "--threads", "3", "--device", "cuda"])
    assert asked == [
        (DEMO_BUNDLE, ["4x128"], "cpu", 0),
        (None, ["2M", "25M"], "cpu", 0),
        (Path("somewhere"), [], "cuda", 3),
    ]


def test_the_command_fails_if_scores_do_not_agree(asked: list[Any], report: dict[str, Any]) -> None:
    """A fast network with wrong scores is no success: exit code 1 and a sentence."""
    assert CliRunner().invoke(app, ["bench", "score"]).exit_code == 0
    row = report["bodies"][1]["agreement"][0]
    row["agrees"] = False
    try:
        done = CliRunner().invoke(app, ["bench", "score"])
    finally:
        row["agrees"] = True
    assert done.exit_code == 1
    assert "tiny: its scores are not those of transformers, cache" in done.stderr


def test_all_benches_make_one_report(
    asked: list[Any], report: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`bench all` runs capture, score and events; its JSON has them by name."""
    monkeypatch.setattr(bench, "bench_capture", lambda: {"machine": "m", "rows": []})
    monkeypatch.setattr(bench_events, "bench_events", lambda: {"machine": "m", "load": 0.0, "rows": []})
    done = CliRunner().invoke(app, ["bench", "all", "--json"])
    assert list(json.loads(done.stdout)) == ["capture", "score", "events"]
    text = CliRunner().invoke(app, ["bench", "all"]).stdout
    for title in ("Capture:", "From arrival to score", "Events:"):
        assert title in text


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["nonsense"], "there is no such benchmark; choose capture, score, events or all"),
        (["score", "--device", "tpu"], "--device tpu: there is no such device; choose cpu or cuda"),
        (["capture", "--body", "2M"], "--model and --body choose what `bench score` measures"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(arguments: list[str], why: str) -> None:
    """A wrong name, device or combination is one sentence."""
    refused = CliRunner().invoke(app, ["bench", *arguments]).exception
    assert isinstance(refused, ConfigError)
    assert why in str(refused)
