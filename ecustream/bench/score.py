"""Measures the scoring engine at steady state, beside Hugging Face's model on the same lines."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch

from ecustream.bench.bodies import BODIES, Body, Lane, bundle_body, random_body
from ecustream.bench.contest import OURS, Contest
from ecustream.bench.machine import machine_line
from ecustream.bench.pace import pace
from ecustream.bench.products import MachineProducts, shapes_of
from ecustream.bench.shares import work_shares
from ecustream.errors import ConfigError
from ecustream.scoring.machine import prepare_machine
from ecustream.scoring.network import AnyNetwork
from ecustream.scoring.networks import open_network

__all__ = ["NetworkFactory", "Plan", "bench_score"]

_PACED_AT_MOST = 0.9
_PROFILED_S = 0.3
_PROFILED_CALLS = 50

NetworkFactory = Callable[[Mapping[str, Any], Mapping[str, torch.Tensor]], AnyNetwork]
Report = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        chunks: lines a call.
        rates: lines a second that arrive where latency is measured.
        repetitions: rounds, in each of which everybody is measured once.
        cell_s: seconds of one measurement in a round.
        paced_s: seconds at each of the rates.
        longest_call_s: chunks of which a call would take longer are left out.
        paced_chunk: lines of the largest call where latency is measured; the service's own default.
    """

    chunks: Sequence[int] = (1, 8, 32, 128, 256, 1024)
    rates: Sequence[float] = (100, 1000, 5000)
    repetitions: int = 5
    cell_s: float = 0.15
    paced_s: float = 5.0
    longest_call_s: float = 3.0
    paced_chunk: int = 256


def bench_score(
    model: Path | None,
    names: Sequence[str] = (),
    *,
    device: Literal["cpu", "cuda"] = "cpu",
    threads: int = 0,
    plan: Plan | None = None,
    network: NetworkFactory | None = None,
    on_progress: Callable[[float, str], None] = lambda share, note: None,
) -> Report:
    """Measure the model of a bundle, random ones, or both.

    The bound and all contenders are measured once in each round, so that a busy moment hits all alike.

    Args:
        model: a bundle; None for none.
        names: of `BODIES`, or `all`, which leaves out on a CPU those that need a GPU.
        device: where networks are computed; in bf16 on `cuda`, in fp32 on `cpu`.
        threads: of torch; 0 is one for each core.
        plan: how much is measured.
        network: makes our network of a `config.json` and weights, with room for two streams; None has the
            service's own choice.
        on_progress: called with the share that is done, and what is next.

    Returns:
        `machine`, `load` (processes that wanted to run in the minute before), `versions`, `device`,
        `threads`, `plan` and `bodies`. Each of these has `name` and `note` (why it was left out, else None),
        and if it was not:

        - `parameters`, `layers`, `hidden`, `window`, `vocab`, `tokens_per_line`, `dtype`, `serving`,
          `attention` (the kernel in use, where there is a choice), `flops_per_token`.
        - `speed`: rows with `who`, `chunk_lines`, `lines_per_s` and `tokens_per_s` (best of the rounds),
          `lines_per_s_median`, `ms_per_call`, `ours_is` (our lines per second with that chunk, in relation
          to the row's) and `note` (why there are no figures, else None). `best` is our fastest row,
          `best_is` by name its lines per second in relation to the best of each of the others.
        - `products`: see `MachineProducts.report`; `of_products`: the share of that rate which the best row
          reaches, counted in `flops_per_token`.
        - `latency`: see `pace`, with `note`.
        - `agreement`: rows with `with`, `tokens`, `max_nats`, `mean_nats`, `tolerance_nats` (of the largest
          difference; in bf16 of the mean), `agrees` and `note`.
        - `work`: see `work_shares`, with `chunk_lines`; for the smallest chunk and for the best.

    Raises:
        BundleError: the bundle cannot be used.
        ConfigError: there is no such body or device.
    """
    plan = plan or Plan()
    place = _device(device)
    load = os.getloadavg()[0]
    makers, left_out = _chosen(model, names, device)
    with _threads(threads) as used:
        bodies = []
        for number, make in enumerate(makers):
            tell = partial(_tell_part, on_progress, number, len(makers))
            bodies.append(_bench_body(make(), plan, place, network, tell))
    return {
        "machine": machine_line(),
        "load": load,
        "versions": {name: _version(name) for name in ("ecustream", "torch", "numpy", "transformers")},
        "device": device if device == "cpu" else torch.cuda.get_device_name(place),
        "threads": used,
        "plan": asdict(plan),
        "bodies": bodies + left_out,
    }


def _chosen(
    model: Path | None, names: Sequence[str], device: str
) -> tuple[list[Callable[[], Body]], list[Report]]:
    """What makes the bodies, and rows for those that are left out."""
    if unknown := [name for name in names if name not in (*BODIES, "all")]:
        known = ", ".join(BODIES)
        raise ConfigError(f"--body {unknown[0]}: there is no such body; choose {known} or all")
    makers: list[Callable[[], Body]] = [] if model is None else [partial(bundle_body, model)]
    left_out: list[Report] = []
    for name, size in BODIES.items():
        if name in names or ("all" in names and not (size.for_gpu and device == "cpu")):
            makers.append(partial(random_body, name))
        elif "all" in names:
            why = f"left out: too slow on a CPU; --body {name} measures it all the same"
            left_out.append({"name": name, "note": why})
    return makers, left_out


def _bench_body(
    body: Body,
    plan: Plan,
    device: torch.device,
    factory: NetworkFactory | None,
    on_progress: Callable[[float, str], None],
) -> Report:
    """The report of one body; the keys are documented at `bench_score`."""
    rolls = "sliding_attention" in (body.config.get("layer_types") or ())
    dtype = torch.bfloat16 if device.type == "cuda" and rolls else torch.float32
    network = factory(body.config, body.weights) if factory else _own_choice(body, device, dtype)
    network.warm_up()
    contest = Contest(
        body,
        network,
        device=device,
        dtype=dtype,
        chunks=plan.chunks,
        longest_call_s=plan.longest_call_s,
    )
    hidden = int(body.config["hidden_size"])
    inner = int(body.config.get("intermediate_size") or 2 * hidden)
    machine = MachineProducts(shapes_of(hidden, inner, device), device, dtype)
    steps = 2 + plan.repetitions + len(plan.rates)

    def tell(step: int, note: str) -> None:
        on_progress(step / steps, f"{body.name}: {note}")

    tell(0, "agreement")
    agreement = contest.agreement()
    contest.warm()
    for number in range(plan.repetitions):
        tell(1 + number, f"speed, round {number + 1} of {plan.repetitions}")
        contest.round(plan.cell_s)
        machine.measure()
    speed, products = contest.rows(), machine.report()
    best = max((row for row in speed if row["who"] == OURS), key=lambda row: row["lines_per_s"] or 0)
    latency = []
    for number, rate in enumerate(plan.rates):
        tell(1 + plan.repetitions + number, f"latency at {rate:,.0f} lines/s")
        latency.append(_latency(contest.ours, rate, best["lines_per_s"], plan))
    tell(steps - 1, "where the time goes")
    chunks = dict.fromkeys((min(plan.chunks), best["chunk_lines"]))
    return {
        "name": body.name,
        "note": None,
        "parameters": sum(tensor.numel() for tensor in body.weights.values()),
        "layers": body.config["num_hidden_layers"],
        "hidden": hidden,
        "window": body.window_tokens,
        "vocab": network.vocab,
        "tokens_per_line": body.tokens_per_line,
        "dtype": str(dtype).removeprefix("torch."),
        "serving": network.serving,
        "attention": getattr(network, "attention_used", None),
        "flops_per_token": network.flops_per_token,
        "speed": speed,
        "best": best,
        "best_is": _best_is(best, speed),
        "products": products,
        "of_products": best["tokens_per_s"] * network.flops_per_token / products["flops_per_s"],
        "latency": latency,
        "agreement": agreement,
        "work": [_work(contest.ours, chunk, device) for chunk in chunks],
    }


def _best_is(best: Report, speed: Sequence[Report]) -> dict[str, float]:
    others: dict[str, float] = {}
    for row in speed:
        if row["who"] != OURS and row["lines_per_s"]:
            others[row["who"]] = max(others.get(row["who"], 0.0), row["lines_per_s"])
    return {who: best["lines_per_s"] / rate for who, rate in others.items()}


def _own_choice(body: Body, device: torch.device, dtype: torch.dtype) -> AnyNetwork:
    return open_network(
        body.config,
        body.weights,
        window_tokens=body.window_tokens,
        warming_tokens=body.warming_tokens,
        max_streams=2,
        device=device,
        dtype=dtype,
    )


def _latency(lane: Lane, rate: float, most: float, plan: Plan) -> Report:
    if rate > _PACED_AT_MOST * most:
        keys = ("lines", "seconds", "calls", "p50_ms", "p99_ms", "max_ms")
        why = f"left out: at its best it scores {most:,.0f} lines/s"
        return {"lines_per_s": rate, **dict.fromkeys(keys), "note": why}
    return {**pace(lane.score, rate, plan.paced_s, chunk_lines=plan.paced_chunk), "note": None}


def _work(lane: Lane, chunk: int, device: torch.device) -> Report:
    begin_s = time.perf_counter()
    lane.score(chunk)
    calls = int(_PROFILED_S / (time.perf_counter() - begin_s))
    calls = max(1, min(_PROFILED_CALLS, calls))
    return {"chunk_lines": chunk, **work_shares(partial(lane.score, chunk), calls, device)}


def _tell_part(
    on_progress: Callable[[float, str], None], number: int, parts: int, share: float, note: str
) -> None:
    on_progress((number + share) / parts, note)


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch finds no CUDA device on this machine")
    return torch.device(name)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@contextmanager
def _threads(threads: int) -> Iterator[int]:
    before = torch.get_num_threads()
    try:
        yield prepare_machine(threads or len(os.sched_getaffinity(0)))
    finally:
        torch.set_num_threads(before)
