"""Bundles with every kind of tokenizer, from their files to a run's scores and its calibration."""

import csv
import functools
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import save

from ecustream.config import Config, load_config
from ecustream.detect.calibration import decode_calibration
from ecustream.knowledge import activity_state, names_for
from ecustream.ledger import Ledger
from ecustream.run.source import TraceLines
from ecustream.scores import FIELD_DELTA, FIELD_NAME, ScoreBlock
from ecustream.scoring.bundle import Bundle, load_bundle
from ecustream.scoring.manifest import read_bundle, write_bundle
from ecustream.service import Run
from ecustream.traffic import Line
from tests.running import OFFLINE
from tests.scoring.tiny import oracle, oracle_logits
from training.calibrate import IntervalLearner, calibrate
from training.simulate import draw_vehicle, write_trace
from training.tokenizers import KINDS, make_tokenizer

WINDOW = 24
LINES, COMPARED_LINES = 300, 60
NATS = ("pduName_nats", "deltaTime_nats", "activityState_nats")


@pytest.fixture(scope="module")
def short_trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first seconds of a clean drive of the bench vehicle."""
    path = tmp_path_factory.mktemp("short") / "short.pcapng"
    write_trace(draw_vehicle("bench"), path, seconds=2, drive=1)
    return path


@pytest.fixture(scope="module")
def short_faulty_trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first seconds of one with faults."""
    path = tmp_path_factory.mktemp("short") / "faulty.pcapng"
    write_trace(draw_vehicle("bench"), path, seconds=5, drive=5, faults="heavy")
    return path


@functools.cache
def lines_of(trace: Path, bundle: Path) -> list[Line]:
    """The first lines of a trace, as a run with the bundle sees them."""
    info = read_bundle(bundle).info
    state = activity_state(Config(), info)
    with closing(TraceLines(trace, Ledger(), names=names_for(Config(), info), state=state)) as lines:
        return next(iter(lines))


def with_tokenizer(kind: str, trace: Path, bundle: Path, out: Path) -> Bundle:
    """The bundle with another tokenizer, learned from the trace's first lines, and an untrained model."""
    files = read_bundle(bundle)
    cycles_ns = {pdu.key: pdu.cycle_ns for pdu in files.info.pdus}
    tokenizer = make_tokenizer(kind, cycles_ns, lambda: [lines_of(trace, bundle)[:LINES]])
    model = oracle(WINDOW, layers=1, vocabulary=tokenizer.vocabulary_size)
    weights = {k: v.contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    info = files.info
    info.tokenizer = kind
    info.window_tokens, info.receptive_field_tokens = WINDOW, WINDOW
    data = {
        **files.data,
        "config.json": json.dumps(json.loads(model.config.to_json_string(use_diff=False))).encode(),
        "model.safetensors": save(weights, {"format": "pt"}),
        "tokenizer.json": tokenizer.to_json().encode(),
    }
    write_bundle(out, info, data)
    return load_bundle(out)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_scores_what_one_whole_pass_scores(
    kind: str, bundle_path: Path, short_trace: Path, tmp_path: Path
) -> None:
    """The score log holds, field by field, the sums of the surprisals of Hugging Face's model."""
    bundle = with_tokenizer(kind, short_trace, bundle_path, tmp_path / "bundle")
    config = load_config(None, OFFLINE | {"scoring.chunk_lines": 50})
    Run(config, short_trace, bundle.path, events=None, score_log=tmp_path / "scores.csv").execute()
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))[:COMPARED_LINES]
    lines = lines_of(short_trace, bundle_path)[:COMPARED_LINES]
    encoded = bundle.new_tokenizer().encode(lines)
    ids = torch.from_numpy(encoded.ids)
    model = oracle(WINDOW, layers=1, vocabulary=bundle.network.vocab)
    nats = torch.nn.functional.cross_entropy(oracle_logits(model, ids[:-1]), ids[1:], reduction="none")
    expected = np.full((COMPARED_LINES, 3), np.nan)
    for token, field, line in zip(nats.tolist(), encoded.fields[1:], encoded.line_of[1:], strict=True):
        expected[line, field] = np.nan_to_num(expected[line, field]) + token
    scored = np.array([[float(row[name] or "nan") for name in NATS] for row in rows])
    np.testing.assert_allclose(scored[1:], expected[1:], atol=2e-3, rtol=1e-5)
    per_line = np.bincount(encoded.line_of)
    perplexity = np.exp(np.nansum(expected, axis=1) / per_line)
    np.testing.assert_allclose([float(row["perplexity"]) for row in rows][1:], perplexity[1:], rtol=1e-3)
    tokens_before = per_line[: [row["warming"] for row in rows].index("0")].sum()
    assert WINDOW <= tokens_before < WINDOW + per_line.max()


def scored(bundle: Bundle, lines: list[Line]) -> Iterator[ScoreBlock]:
    """The lines' scores in chunks."""
    scorer = bundle.new_scorer()
    stream = scorer.open_stream()
    for i in range(0, len(lines), 100):
        yield scorer.score([(stream, lines[i : i + 100])])[0]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_calibrated_and_judged_whatever_fields_they_have(
    kind: str, bundle_path: Path, short_trace: Path, short_faulty_trace: Path, tmp_path: Path
) -> None:
    """A field without tokens is calibrated as one that never surprises; a run over faults tells events."""
    bundle = with_tokenizer(kind, short_trace, bundle_path, tmp_path / "bundle")
    learner = IntervalLearner()
    lines = lines_of(short_trace, bundle_path)
    learner.add(lines)
    learner.end_piece()
    blocks = list(scored(bundle, lines))
    calibration = calibrate(learner, blocks, 0.5)
    assert decode_calibration(msgspec.json.encode(calibration)) == calibration
    nats = np.concatenate([block.field_nats[~block.warming] for block in blocks])
    assert np.isfinite(nats[:, FIELD_NAME]).all()
    assert np.isnan(nats[:, FIELD_DELTA]).all() == (kind == "row")
    onsets = {pdu.delta_onset_nats for pdu in calibration.pdus}
    assert onsets == {0.0} if kind == "row" else min(onsets) > 0
    files = read_bundle(bundle.path)
    write_bundle(
        bundle.path, files.info, {**files.data, "calibration.json": msgspec.json.encode(calibration)}
    )
    events = tmp_path / "events.jsonl"
    Run(
        load_config(None, OFFLINE), short_faulty_trace, bundle.path, events=str(events), score_log=None
    ).execute()
    assert any("came" in line for line in events.read_text().splitlines())


@pytest.mark.parametrize("kind", KINDS)
def test_one_expected_token_or_none(kind: str, bundle_path: Path, short_trace: Path, tmp_path: Path) -> None:
    """Where a field has several tokens, none of them is what the model expected instead."""
    bundle = with_tokenizer(kind, short_trace, bundle_path, tmp_path / "bundle")
    lines = lines_of(short_trace, bundle_path)[:LINES]
    (block,) = bundle.new_scorer().score([(bundle.new_scorer().open_stream(), lines)])
    encoded = bundle.new_tokenizer().encode(lines)
    count = np.zeros((LINES, 3), dtype=int)
    np.add.at(count, (encoded.line_of, encoded.fields), 1)
    np.testing.assert_array_equal(block.expected >= 0, count == 1)
    np.testing.assert_array_equal(block.tokens, count.sum(axis=1))
    assert {bundle.expectation(-1, line.stream) for line in lines} == {None}
