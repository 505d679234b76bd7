"""From clean traces to a calibrated bundle: learn cycles, train, calibrate, write."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from safetensors.torch import save as save_safetensors

import ecustream
from ecustream.detect.calibration import Calibration
from ecustream.errors import InputError
from ecustream.progress import WorkProgress
from ecustream.scores import FIELDS, ScoreBlock
from ecustream.scoring.bundle import Bundle
from ecustream.scoring.fields import FieldsTokenizer
from ecustream.scoring.manifest import (
    BUNDLE_FORMAT,
    BundleInfo,
    BundlePdu,
    fingerprint,
    read_bundle,
    write_bundle,
)
from ecustream.scoring.network import AnyNetwork
from ecustream.scoring.qwen2 import Qwen2
from ecustream.scoring.scorer import Scorer
from ecustream.traffic import ACTIVITY_STATES
from training.calibrate import Bounds, IntervalLearner, calibrate
from training.pretrain import PretrainConfig, PretrainResult, TokenTrace, pretrain
from training.traces import Traces

__all__ = ["fit", "recalibrate"]

_TRAIN_SHARE, _VALIDATION_SHARE = 0.7, 0.1
_HELD_OUT_SHARE = 1 - _TRAIN_SHARE - _VALIDATION_SHARE
_MOST_HELD_OUT_LINES = 400_000
_CHUNK_LINES = 512
_ENOUGH_SECONDS = 15
_FEW_STEPS = 100


def fit(
    traces: Traces,
    out: Path,
    config: PretrainConfig,
    say: Callable[[str], None] = lambda sentence: None,
) -> BundleInfo:
    """Make a bundle from clean traffic.

    Each trace is split by time: the first 70 % train the model, the next 10 % stop the training, the
    last 20 % calibrate the detector.

    Args:
        traces: clean traffic of one vehicle.
        out: the bundle's folder; replaced if it is a bundle.
        config: body and schedule of the model.
        say: told what was found, sentence by sentence.

    Raises:
        InputError: there is no PDU or too little traffic in the traces, or one is damaged or has losses.
        OutputError: `out` cannot be written.
    """
    torch.manual_seed(config.seed)
    learner, line_counts = _learn_intervals(traces)
    bounds = learner.bounds()
    cyclic = sum(b.cycle_ns > 0 for b in bounds.values())
    say(
        f"{sum(line_counts):,} lines of {len(bounds)} PDUs, {cyclic} of them cyclic, "
        f"{learner.lines_per_hour() / 3600:,.0f} lines/s"
    )
    cycles = {key: bounds[key].cycle_ns for key in sorted(bounds)}
    tokens = _tokenize(traces, cycles)
    train = [_part(t, n, 0, _TRAIN_SHARE) for t, n in zip(tokens, line_counts, strict=True)]
    stop = _TRAIN_SHARE + _VALIDATION_SHARE
    validation = [_part(t, n, _TRAIN_SHARE, stop) for t, n in zip(tokens, line_counts, strict=True)]
    tokenizer = FieldsTokenizer(cycles)
    with WorkProgress("training", 1000) as progress:
        result = pretrain(
            train,
            validation,
            tokenizer.vocabulary_size,
            config,
            lambda done, total, text: progress.update(done, text),
        )
    say(
        f"{result.steps} steps in {result.seconds:.0f} s, stopped by {result.stopped}: "
        f"{result.train_nats:.3f} nats a token in training, {result.validation_nats:.3f} in validation"
    )
    if result.steps < _FEW_STEPS and result.stopped == "time":
        say("the model learned little in this time; intervals and deadlines judge alone: try more --minutes")
    per_line = sum(len(t.ids) for t in tokens) / sum(line_counts)
    weights = {k: v.contiguous() for k, v in result.model.state_dict().items() if k != "lm_head.weight"}
    model_config = result.model.config.to_dict() | {"architectures": ["Qwen2ForCausalLM"]}
    model = Qwen2(model_config, weights)
    held_out = _score_held_out(traces, cycles, line_counts, model)
    calibration = calibrate(learner, held_out, _HELD_OUT_SHARE)
    seconds = 3600 * sum(len(block.lines) for block in held_out) / learner.lines_per_hour()
    say(f"calibrated on {seconds:.0f} s of traffic that the model was not trained on")
    if seconds < _ENOUGH_SECONDS:
        say("that is little: thresholds and deadlines stay wide until more clean traffic is given")
    pdus = [
        BundlePdu(key, learner.streams[key].name, learner.streams[key].source, cycle)
        for key, cycle in cycles.items()
    ]
    info = BundleInfo(
        format=BUNDLE_FORMAT,
        tokenizer=tokenizer.name,
        fields=list(FIELDS),
        tokens_per_line=round(per_line, 4),
        window_tokens=model.window,
        receptive_field_tokens=model.warming_tokens,
        key=traces.key,
        pdus=pdus,
        fingerprint=fingerprint(pdus),
        activity_states={str(code): text for code, text in ACTIVITY_STATES.items()},
        names=[list(row) for row in traces.names.rows] if traces.names else [],
        trained=_provenance(traces, config, result, line_counts, bounds),
    )
    write_bundle(
        out,
        info,
        {
            "config.json": json.dumps(model_config, indent=1, sort_keys=True, default=str).encode() + b"\n",
            "model.safetensors": save_safetensors(weights, {"format": "pt"}),
            "tokenizer.json": tokenizer.to_json().encode(),
            "calibration.json": _as_json(calibration),
        },
    )
    return info


def recalibrate(traces: Traces, model: Path, out: Path) -> BundleInfo:
    """Write a bundle again with a calibration learned from other, or more, clean traffic.

    The last 20 % of each trace must not have been trained on; in traces that the model never saw that is
    so, in those that `fit` made it from as well.

    Args:
        traces: clean traffic of the vehicle that the bundle was made for.
        model: the bundle's folder.
        out: the new bundle's folder; may be the same.

    Raises:
        InputError: there is no PDU in a trace, or one that the bundle does not know.
        EcustreamError: the bundle cannot be read or written.
    """
    files = read_bundle(model)
    bundle = Bundle(files)
    cycles = {pdu.key: pdu.cycle_ns for pdu in bundle.info.pdus}
    learner, line_counts = _learn_intervals(traces)
    strangers = [stream.name for key, stream in learner.streams.items() if key not in cycles]
    if strangers:
        raise InputError(
            f"{model}: does not know {len(strangers)} PDUs of this traffic, {strangers[0]} for one; "
            "fit a new bundle"
        )
    held_out = _score_held_out(traces, cycles, line_counts, bundle.network)
    calibration = calibrate(learner, held_out, _HELD_OUT_SHARE)
    write_bundle(out, bundle.info, {**files.data, "calibration.json": _as_json(calibration)})
    return bundle.info


def _as_json(calibration: Calibration) -> bytes:
    return msgspec.json.format(msgspec.json.encode(calibration), indent=1) + b"\n"


def _learn_intervals(traces: Traces) -> tuple[IntervalLearner, list[int]]:
    learner = IntervalLearner()
    counts = []
    for index, batches in traces.read("reading"):
        count = 0
        for lines in batches:
            learner.add(lines)
            count += len(lines)
        if not count:
            raise InputError(f"{traces.paths[index]}: there is no PDU in this trace")
        learner.end_piece()
        counts.append(count)
    return learner, counts


def _tokenize(traces: Traces, cycles: dict[str, int]) -> list[TokenTrace]:
    out = []
    for _, batches in traces.read("tokenizing", cycles):
        tokenizer = FieldsTokenizer(cycles)
        ids, line_of, count = [], [], 0
        for lines in batches:
            encoded = tokenizer.encode(lines)
            ids.append(encoded.ids.astype(np.int32))
            line_of.append((encoded.line_of + count).astype(np.int32))
            count += len(lines)
        out.append(TokenTrace(np.concatenate(ids), np.concatenate(line_of)))
    return out


def _part(tokens: TokenTrace, lines: int, start: float, stop: float) -> TokenTrace:
    first, last = np.searchsorted(tokens.line_of, [int(lines * start), int(lines * stop)])
    return TokenTrace(tokens.ids[first:last], tokens.line_of[first:last])


def _score_held_out(
    traces: Traces, cycles: dict[str, int], line_counts: Sequence[int], model: AnyNetwork
) -> list[ScoreBlock]:
    """Scores of the held-out end of every trace, the newest lines if there are very many."""
    warm_up = model.warming_tokens
    budget = _MOST_HELD_OUT_LINES // len(line_counts)
    blocks: list[ScoreBlock] = []
    for index, batches in traces.read("calibrating", cycles):
        scorer = Scorer(model, lambda: FieldsTokenizer(cycles))
        stream = scorer.open_stream()
        total = line_counts[index]
        first = max(int(total * (1 - _HELD_OUT_SHARE)), total - budget)
        count = 0
        for lines in batches:
            begin = max(0, first - warm_up - count)
            count += len(lines)
            if begin < len(lines):
                block = scorer.score([(stream, lines[begin:])])[0]
                if count > first:
                    blocks.append(block)
    return blocks


def _provenance(
    traces: Traces,
    config: PretrainConfig,
    result: PretrainResult,
    line_counts: Sequence[int],
    bounds: dict[str, Bounds],
) -> dict[str, Any]:
    return {
        "ecustream": ecustream.__version__,
        "torch": torch.__version__.split("+")[0],
        "config": msgspec.to_builtins(config),
        "traces": [
            {"name": path.name, "lines": count, "sha256": _sha256(path)}
            for path, count in zip(traces.paths, line_counts, strict=True)
        ],
        "steps": result.steps,
        "tokens": result.tokens,
        "seconds": round(result.seconds, 1),
        "stopped": result.stopped,
        "train_nats": round(result.train_nats, 4),
        "validation_nats": round(result.validation_nats, 4),
        "cyclic_pdus": sum(b.cycle_ns > 0 for b in bounds.values()),
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
