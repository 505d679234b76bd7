"""LoRA on the models of bundles: opened, given an adapter, and merged with it again."""

import importlib.util
import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from peft.utils.save_and_load import get_peft_model_state_dict, set_peft_model_state_dict
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.utils import logging

from ecustream.errors import BundleError, ConfigError, InputError
from ecustream.scoring.manifest import read_bundle

__all__ = ["TARGETS", "Lora", "add_lora", "lora_of", "merge", "open_model", "quantised", "trainable"]

TARGETS: Mapping[str, tuple[str, ...]] = {
    "qwen2": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    # The others are read as bare weights: dt_proj always, out_proj by the fused kernels, so peft refuses it.
    "mamba": ("in_proj", "x_proj"),
    "mamba2": ("in_proj",),
}
"""The modules that get an adapter, by `model_type`: every linear map whose adapter is exact once merged."""


class Lora(NamedTuple):
    """An adapter without its model: peft's `adapter_config.json` and the tensors of its weights."""

    config: Mapping[str, Any]
    weights: Mapping[str, torch.Tensor]


def open_model(bundle: Path) -> Any:
    """The model of a bundle as Hugging Face's, in float32 and in evaluation mode, its window kept.

    Raises:
        BundleError: it is damaged, or not a model that can be fine-tuned.
    """
    data = read_bundle(bundle).data
    try:
        kind = str(json.loads(data["config.json"])["model_type"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{bundle}: config.json cannot be read: {error}") from None
    if kind not in TARGETS:
        raise BundleError(f"{bundle}: config.json: a {kind} cannot be fine-tuned, only {', '.join(TARGETS)}")
    try:
        model = _from_pretrained(bundle, attn_implementation="sdpa" if kind == "qwen2" else "eager")
    except (ValueError, KeyError, RuntimeError, OSError) as error:
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise BundleError(f"{bundle}: the model cannot be opened for training: {why}") from error
    # Or the folder's name would be written into whatever is made of the model.
    model.config._name_or_path = model.name_or_path = ""
    return model.eval()


def add_lora(model: Any, rank: int, lora_alpha: int, start: Lora | None = None) -> Any:
    """A peft model around `model`: only the adapter is trained, and at first it changes nothing.

    Args:
        model: a Hugging Face model of a kind in `TARGETS`; gets the adapter's modules.
        rank: of the adapter's matrices.
        lora_alpha: weighs the adapter by lora_alpha / rank (LoRA, arXiv 2106.09685, section 4.1).
        start: the weights to start from; new ones come from torch's seed.

    Raises:
        InputError: `start` does not fit the model.
        ConfigError: the model is of no such kind, or `start` has another rank or weight.
    """
    kind = model.config.model_type
    if kind not in TARGETS:
        raise ConfigError(f"a {kind} cannot be fine-tuned, only {', '.join(TARGETS)}")
    if start is None:
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=rank,
            lora_alpha=lora_alpha,
            lora_dropout=0.0,
            target_modules=list(TARGETS[kind]),
        )
        return _around(model, config)
    if (theirs := (start.config["r"], start.config["lora_alpha"])) != (rank, lora_alpha):
        raise ConfigError(
            f"the adapter to start from has rank {theirs[0]} and lora_alpha {theirs[1]}, not {rank} and "
            f"{lora_alpha}; continue it with its own"
        )
    return _restored(model, start)


def lora_of(model: Any) -> Lora:
    """The adapter of a peft model, on the CPU."""
    config = {
        key: sorted(value) if isinstance(value, set) else value
        for key, value in model.peft_config["default"].to_dict().items()
    }
    # Whose it is says the release; a path of this machine means nothing elsewhere.
    config |= {"base_model_name_or_path": None, "inference_mode": True, "peft_type": "LORA"}
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    return Lora(config, {name: tensor.detach().cpu().clone() for name, tensor in weights.items()})


def merge(model: Any, lora: Lora) -> Any:
    """`model` with the adapter added to its own weights; in evaluation mode, nothing of peft left in it.

    Args:
        model: the base in float32; its weights are changed in place.
        lora: an adapter for it.

    Raises:
        InputError: the adapter does not fit the model, or has a weight that is not a number.
    """
    peft_model = _restored(model, lora)
    try:
        merged = peft_model.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise InputError(f"the adapter cannot be merged: {error}") from error
    # What peft leaves behind would make Hugging Face save an adapter instead of the model.
    for name in ("peft_config", "_hf_peft_config_loaded"):
        if name in vars(merged):
            delattr(merged, name)
    return merged.requires_grad_(True).eval()


def trainable(model: Any) -> dict[str, torch.Tensor]:
    """Copies of the weights that are trained, by name."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def quantised(model: Any, device: torch.device) -> Any:
    """A copy of `model` in 4 bits (NF4, arXiv 2305.14314) on `device`, ready for an adapter.

    Raises:
        ConfigError: bitsandbytes is not installed, or the model is none that it can quantise.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError("QLoRA needs the package bitsandbytes; install it, or train without QLoRA")
    kind = model.config.model_type
    if kind != "qwen2":
        raise ConfigError(f"QLoRA is for qwen2 models; a {kind} reads weights that 4 bits would hide")
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if device.type == "cuda" else torch.float32,
    )
    with tempfile.TemporaryDirectory() as folder:
        with _quiet():
            model.save_pretrained(folder)
        twin = _from_pretrained(
            Path(folder), attn_implementation="sdpa", quantization_config=config, device_map={"": device}
        )
    twin.config._name_or_path = twin.name_or_path = ""
    prepare: Any = prepare_model_for_kbit_training
    return prepare(twin, use_gradient_checkpointing=False)


def _around(model: Any, config: LoraConfig) -> Any:
    with warnings.catch_warnings():
        # peft asks transformers by a name that will be gone in its next major version.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return get_peft_model(model, config)


def _restored(model: Any, lora: Lora) -> Any:
    """A peft model around `model` with the weights of `lora`, trainable."""
    try:
        config = LoraConfig(**{**lora.config, "inference_mode": False})
        peft_model = _around(model, config)
        found: Any = set_peft_model_state_dict(peft_model, dict(lora.weights))
    except (TypeError, ValueError, RuntimeError, KeyError) as error:
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"the adapter does not fit the model: {why}") from error
    missing = [name for name in found.missing_keys if "lora_" in name]
    if strange := [*missing, *found.unexpected_keys]:
        raise InputError(f"the adapter does not fit the model: {strange[0]} is in only one of them")
    return peft_model


def _from_pretrained(folder: Path, **named: Any) -> Any:
    with _quiet():
        model, found = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True, **named
        )
    if strange := sorted([*found["missing_keys"], *found["unexpected_keys"], *found["mismatched_keys"]]):
        raise ValueError(f"model.safetensors does not fit config.json: {strange[0]}")
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own progress bars."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
