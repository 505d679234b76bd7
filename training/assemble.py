"""From clean traffic and a trained network to a calibrated bundle on disk."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from safetensors.torch import save as save_safetensors

import ecustream
from ecustream.detect.calibration import Calibration
from ecustream.errors import InputError
from ecustream.scores import FIELDS, ScoreBlock
from ecustream.scoring.manifest import BUNDLE_FORMAT, BundleInfo, BundlePdu, fingerprint, write_bundle
from ecustream.scoring.network import AnyNetwork
from ecustream.scoring.networks import open_network
from ecustream.scoring.scorer import Scorer
from ecustream.scoring.tokenizer import LineTokenizer
from ecustream.traffic import ACTIVITY_STATES, Line
from training.calibrate import IntervalLearner, calibrate
from training.shards import Shards
from training.splits import Part, Split
from training.traces import Traces, lines_between
from training.warming import warming_tokens

__all__ = [
    "Checkpoint",
    "Knowledge",
    "as_json",
    "calibrated",
    "checkpoint_of",
    "learn",
    "learn_known",
    "opened",
    "read_parts",
    "save_bundle",
    "work_folder",
]

_MOST_HELD_OUT_LINES = 3_000_000


class Knowledge(NamedTuple):
    """What clean traffic says without a model.

    Attributes:
        intervals: of every PDU.
        line_counts: of each trace.
        cycles_ns: learned cycle of every PDU key, sorted by key; 0 where it has none.
    """

    intervals: IntervalLearner
    line_counts: list[int]
    cycles_ns: dict[str, int]


class Checkpoint(NamedTuple):
    """A trained model as files of a bundle: `config.json` and the tensors of `model.safetensors`."""

    config: Mapping[str, Any]
    weights: Mapping[str, torch.Tensor]

    def open(self, window_tokens: int, warming_tokens: int) -> AnyNetwork:
        """The network that serves it; see `open_network`."""
        return open_network(
            self.config, self.weights, window_tokens=window_tokens, warming_tokens=warming_tokens
        )

    def files(self) -> dict[str, bytes]:
        """Contents of its files by name."""
        return {
            "config.json": json.dumps(self.config, indent=1, sort_keys=True, default=str).encode() + b"\n",
            "model.safetensors": save_safetensors(dict(self.weights), {"format": "pt"}),
        }


def checkpoint_of(model: Any) -> Checkpoint:
    """Configuration and weights of a Hugging Face causal language model, tied tensors once."""
    config = model.config.to_dict() | {"architectures": [type(model).__name__]}
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    weights = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    return Checkpoint(config, {name: tensor for name, tensor in weights.items() if name not in tied})


def learn(traces: Traces) -> Knowledge:
    """Read clean traces for their intervals.

    Raises:
        InputError: there is no PDU in a trace, or it is damaged or has losses.
    """
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
    bounds = learner.bounds()
    return Knowledge(learner, counts, {key: bounds[key].cycle_ns for key in sorted(bounds)})


def learn_known(traces: Traces, bundle: Path, cycles_ns: Mapping[str, int]) -> Knowledge:
    """As `learn`, of traffic that a bundle knows.

    Raises:
        InputError: also where there is a PDU that is not in `cycles_ns`, the bundle's.
    """
    known = learn(traces)
    strangers = [stream.name for key, stream in known.intervals.streams.items() if key not in cycles_ns]
    if strangers:
        raise InputError(
            f"{bundle}: does not know {len(strangers)} PDUs of this traffic, {strangers[0]} for one; "
            "fit a new bundle"
        )
    return known


def opened(checkpoint: Checkpoint, window_tokens: int, shards: Shards, parts: Split) -> AnyNetwork:
    """The network that serves a checkpoint; how long a recurrent one takes to get warm is measured.

    Args:
        checkpoint: the model.
        window_tokens: its window, or the length of the texts that it was trained on.
        shards: clean traffic.
        parts: of it; the measurement is made on the longest piece of validation.
    """
    network = checkpoint.open(window_tokens, 0)
    if network.serving != "recurrent":
        return network
    longest = max(parts.validation, key=lambda part: part.stop_line - part.first_line)
    tokens = slice(int(shards.first_token[longest.first_line]), int(shards.first_token[longest.stop_line]))
    return checkpoint.open(window_tokens, warming_tokens(network, shards.ids[tokens]))


@contextmanager
def work_folder(work: Path | None) -> Iterator[Path]:
    """`work`, or a temporary folder where none is given."""
    if work is not None:
        yield work
        return
    with tempfile.TemporaryDirectory(prefix="ecustream-") as folder:
        yield Path(folder)


def calibrated(
    traces: Traces,
    known: Knowledge,
    tokenizer: LineTokenizer,
    cycles_ns: dict[str, int],
    network: AnyNetwork,
    held_out: Sequence[Part],
) -> tuple[Calibration, float]:
    """Calibration from lines that the network was not trained on, and how many seconds of traffic that was.

    Args:
        traces: clean traffic.
        known: what `learn` found in it.
        tokenizer: of the network.
        cycles_ns: for the activity state.
        network: was not trained on `held_out`.
        held_out: the ends of traces, or whole ones, their lines numbered through; of very long ones the
            newest lines count.
    """
    blocks: list[ScoreBlock] = []
    for batches, part in _drives(traces, "calibrating", known, cycles_ns, held_out):
        first = max(part.first_line, part.stop_line - _MOST_HELD_OUT_LINES // len(held_out))
        scorer = Scorer(network, tokenizer.fresh)
        stream = scorer.open_stream()
        at = max(0, first - network.warming_tokens)
        for lines in lines_between(batches, at, part.stop_line):
            block = scorer.score([(stream, lines)])[0].part(slice(max(0, first - at), None))
            at += len(lines)
            if block.lines:
                blocks.append(block)
    scored = sum(len(block.lines) for block in blocks)
    seconds = 3600 * scored / known.intervals.lines_per_hour()
    share = sum(part.stop_line - part.first_line for part in held_out) / sum(known.line_counts)
    return calibrate(known.intervals, blocks, share), seconds


def read_parts(
    traces: Traces, title: str, known: Knowledge, parts: Sequence[Part]
) -> Iterator[Iterator[Sequence[Line]]]:
    """The lines of parts of clean traces, trace by trace, in batches.

    Args:
        traces: clean traffic.
        title: of the progress bar.
        known: what `learn` found in it.
        parts: at most one of each trace, their lines numbered through.
    """
    for batches, part in _drives(traces, title, known, known.cycles_ns, parts):
        yield lines_between(batches, part.first_line, part.stop_line)


def _drives(
    traces: Traces, title: str, known: Knowledge, cycles_ns: dict[str, int], parts: Sequence[Part]
) -> Iterator[tuple[Iterator[Sequence[Line]], Part]]:
    """Each trace that has a part, as batches of all its lines, and its part, numbered within the trace."""
    ends = list(accumulate(known.line_counts))
    for index, batches in traces.read(title, cycles_ns):
        before = ends[index] - known.line_counts[index]
        for part in parts:
            if before <= part.first_line < ends[index]:
                yield batches, Part(part.first_line - before, part.stop_line - before)


def save_bundle(
    out: Path,
    traces: Traces,
    known: Knowledge,
    tokenizer: LineTokenizer,
    checkpoint: Checkpoint,
    network: AnyNetwork,
    window_tokens: int,
    tokens_per_line: float,
    calibration: Calibration,
    trained: dict[str, Any],
) -> BundleInfo:
    """Write a new bundle.

    Raises:
        OutputError: it cannot be written.
    """
    cycles, streams = known.cycles_ns, known.intervals.streams
    pdus = [BundlePdu(key, streams[key].name, streams[key].source, cycle) for key, cycle in cycles.items()]
    info = BundleInfo(
        format=BUNDLE_FORMAT,
        tokenizer=tokenizer.name,
        fields=list(FIELDS),
        tokens_per_line=round(tokens_per_line, 4),
        window_tokens=window_tokens,
        receptive_field_tokens=network.warming_tokens,
        key=traces.key,
        pdus=pdus,
        fingerprint=fingerprint(pdus),
        activity_states={str(code): text for code, text in ACTIVITY_STATES.items()},
        names=[list(row) for row in traces.names.rows] if traces.names else [],
        trained=trained_with(traces, known.line_counts) | trained,
    )
    write_bundle(
        out,
        info,
        {
            **checkpoint.files(),
            "tokenizer.json": tokenizer.to_json().encode(),
            "calibration.json": as_json(calibration),
        },
    )
    return info


def trained_with(traces: Traces, line_counts: list[int]) -> dict[str, Any]:
    """Versions and traces, for `trained` of `bundle.json`."""
    return {
        "ecustream": ecustream.__version__,
        "torch": torch.__version__.split("+")[0],
        "traces": [
            {"name": path.name, "lines": count, "sha256": traces.sha256(path)}
            for path, count in zip(traces.paths, line_counts, strict=True)
        ],
    }


def as_json(calibration: Calibration) -> bytes:
    """`calibration.json`."""
    return msgspec.json.format(msgspec.json.encode(calibration), indent=1) + b"\n"
