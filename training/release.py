"""From a bundle and labelled traffic of a software release to that release's bundle, and its adapter."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch

import ecustream
from ecustream.errors import ConfigError
from ecustream.progress import WorkProgress
from ecustream.scoring.manifest import BundleInfo, refuse_foreign, write_bundle
from training.adapters import Release, check_release, open_adapter, save_adapter
from training.assemble import as_json, calibrated, checkpoint_of, learn_known, opened, work_folder
from training.base import open_base
from training.budget import Budget
from training.finetune import Finetuned, FinetuneSettings, finetune_model
from training.lora import open_model
from training.recipe import Recipe
from training.sharding import LabelKind, shard_clean, shard_labelled
from training.shards import open_shards
from training.splits import split
from training.traces import Traces
from training.trainer import process_state

__all__ = ["FINETUNING", "AdapterShelf", "finetune"]

FINETUNING = Recipe(
    warmup_steps=10,
    weight_decay=0.0,
    mask_tokens=0.0,
    drop_lines=0.0,
    max_steps=200,
    max_seconds=None,
    evaluate_every=20,
    patience=None,
)
"""The schedule of fine-tuning: short, and nothing is hidden from the model: labels mean what it sees."""


class AdapterShelf(NamedTuple):
    """Where the adapter of a release is kept, its name, and the release that it continues from."""

    folder: Path
    release: str
    parent: str | None = None


def finetune(
    base: Path,
    traces: Sequence[Path],
    clean: Sequence[Path],
    out: Path,
    settings: FinetuneSettings,
    recipe: Recipe,
    *,
    labels: LabelKind = "annotator",
    replay: Sequence[Path] = (),
    shelf: AdapterShelf | None = None,
    source: str | None = None,
    work: Path | None = None,
    resume: bool = False,
    budget: Budget | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Finetuned | None:
    """Fine-tune the model of a bundle on labelled traffic and calibrate it anew on clean traffic.

    The first 70 % of every trace are trained on, the next 10 % choose the weights, the last 20 % show the
    effects; of clean traces the last 20 % calibrate. Several processes share the work, as in `fit`.

    Args:
        base: the bundle that is fine-tuned; where adapters continue each other, always the first one.
        traces: with known anomalies; their labels lie beside them.
        clean: traffic of the same software without anomalies.
        out: the new bundle's folder.
        settings: objective and adapter.
        recipe: batches and schedule.
        labels: X.annotator.jsonl (by rules, unreliable) or X.labels.jsonl (true) beside X.pcapng.
        replay: older traffic, so that it is not forgotten.
        shelf: keeps the adapter for the next release.
        source: bus name to use instead of the traces' own.
        work: keeps shards and checkpoints.
        resume: go on from the newest checkpoint in `work`.
        budget: of floating-point operations.
        say: told what the run will cost.

    Returns:
        What fine-tuning did; None in all processes but the first.

    Raises:
        InputError: a trace, a label file or an adapter does not fit; see also `finetune_model`.
        ConfigError: the settings do not fit, or training diverges.
        EcustreamError: a bundle cannot be read or written.
    """
    if not clean:
        raise ConfigError("fine-tuning moves the model's scores: give clean traces to calibrate them anew")
    refuse_foreign(out)
    if shelf is not None:
        check_release(shelf.folder, shelf.release, shelf.parent)
    start = open_base(base)
    files, tokenizer, cycles = start.files, start.tokenizer, start.cycles_ns
    processes = process_state()
    adapter = None
    if shelf is not None and shelf.parent is not None:
        adapter = open_adapter(shelf.folder, shelf.parent, files.info.sha256["model.safetensors"])
    with work_folder(work) as folder:
        new, quiet = start.traces(traces, source), start.traces(clean, source)
        known = None
        if processes.is_main_process:
            known = learn_known(quiet, base, cycles)
            shard_labelled(new, start, folder / "shards", labels)
            shard_clean(quiet, tokenizer, cycles, folder / "clean")
            if replay:
                shard_clean(start.traces(replay, source), tokenizer, cycles, folder / "replay")
        processes.wait_for_everyone()
        quiet_shards = open_shards(folder / "clean")
        older = open_shards(folder / "replay") if replay else None
        shards = open_shards(folder / "shards")
        with WorkProgress("fine-tuning", 1000, shown=known is not None) as progress:
            tuned = finetune_model(
                open_model(base),
                shards,
                split(shards),
                settings,
                recipe,
                replay=None if older is None else (older, split(older).train),
                clean=(quiet_shards, split(quiet_shards).validation),
                fields_of_tokens=tokenizer.fields_of_tokens(),
                tokenizer_json=files.data["tokenizer.json"].decode(),
                adapter=None if adapter is None else adapter.lora,
                work=folder / "run" if work else None,
                resume=resume,
                budget=budget,
                say=say,
                progress=lambda done, total, text: progress.update(1000 * done / total, text),
            )
        if known is None:
            return None
        checkpoint = checkpoint_of(tuned.model)
        network = opened(checkpoint, files.info.window_tokens, quiet_shards, split(quiet_shards))
        held_out = split(quiet_shards).test
        calibration, _ = calibrated(quiet, known, tokenizer, cycles, network, held_out)
        told = _told(files.info, settings, recipe, tuned) | {
            "release": None if shelf is None else shelf.release,
            "continued_from": None if shelf is None else shelf.parent,
            "labels": labels,
            "traces": _names(new),
            "clean": _names(quiet),
            "replay": _names(start.traces(replay, source)),
        }
        info = msgspec.structs.replace(
            files.info,
            receptive_field_tokens=network.warming_tokens,
            trained=files.info.trained | {"finetuned": told},
        )
        write_bundle(
            out, info, {**files.data, **checkpoint.files(), "calibration.json": as_json(calibration)}
        )
        if shelf is not None:
            release = Release(
                name=shelf.release,
                base_sha256=files.info.sha256["model.safetensors"],
                parent=shelf.parent,
                settings=told["settings"],
                traces=told["traces"],
                effects=told["effects"],
            )
            save_adapter(shelf.folder, release, tuned.lora)
    return tuned


def _names(traces: Traces) -> list[dict[str, Any]]:
    return [{"name": path.name, "sha256": traces.sha256(path)} for path in traces.paths]


def _told(base: BundleInfo, settings: FinetuneSettings, recipe: Recipe, tuned: Finetuned) -> dict[str, Any]:
    outcome = tuned.outcome
    return {
        "ecustream": ecustream.__version__,
        "torch": torch.__version__.split("+")[0],
        "base": {
            "sha256": base.sha256["model.safetensors"],
            # Of a base that was fine-tuned itself; the rest of what trained it stays where it was.
            "finetuned": base.trained.get("finetuned"),
        },
        "settings": msgspec.to_builtins(settings),
        # The learning rate is that of the settings: what is told is what was done.
        "recipe": msgspec.to_builtins(recipe) | {"learning_rate": settings.learning_rate},
        "steps": outcome.steps,
        "tokens": outcome.tokens,
        "seconds": round(outcome.seconds, 1),
        "flops": outcome.flops,
        "planned_flops": outcome.planned_flops,
        "stopped": outcome.stopped,
        "effects": {
            "before": msgspec.to_builtins(tuned.before),
            "after": msgspec.to_builtins(tuned.after),
            "clean_nats_before": round(tuned.clean_nats_before, 4),
            "clean_nats_after": round(tuned.clean_nats_after, 4),
        },
    }
