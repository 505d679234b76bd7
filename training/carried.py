"""Training of a model whose past is carried over from chunk to chunk of endless streams."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ecustream.errors import ConfigError, InputError, OutputError
from training.recurrent_mixers import mamba2_mixer, mamba_mixer
from training.sliding_past import SlidingPast

__all__ = ["Carried"]

LayerPast = tuple[Tensor, ...]


class Carried(nn.Module):
    """A causal language model of Hugging Face that goes on where each stream's last chunk ended.

    Mamba and Mamba2 carry the state of convolution and scan, a sliding-window Qwen2 the keys and values of
    the last `window - 1` tokens (Transformer-XL, arXiv 1901.02860), with positions that go on. The logits
    of consecutive chunks are those of one pass over all of them; gradients end where a chunk begins.

    A stream is a lane of the data. Parameters, the keys of `state_dict` and whatever else one asks of it
    are those of the model. Two of these around one model have lanes of their own: one trains, one measures.

    Args:
        model: a MambaForCausalLM, Mamba2ForCausalLM or Qwen2ForCausalLM, possibly with adapters. Mixers
            of the Mambas then run through `training.recurrent_mixers`, also where the model is called alone.

    Raises:
        ConfigError: the past of such a model cannot be carried.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self._lanes = _Lanes()
        kind = model.config.model_type
        if kind in ("mamba", "mamba2"):
            _continue_mixers(model)
        elif kind != "qwen2" or set(model.config.layer_types) != {"sliding_attention"}:
            raise ConfigError(
                f"a {kind} with this attention cannot carry its past over chunks, only a mamba, a mamba2 and "
                "a qwen2 whose every layer has a sliding window"
            )
        else:
            _keep_past_in_checkpoints(model)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    def forward(
        self, input_ids: Tensor, lane: Tensor | None = None, fresh: Tensor | None = None, **others: Any
    ) -> Any:
        """The model's output, `.logits` among it.

        Args:
            input_ids: the next tokens of some lanes, (batch, length).
            lane: whose they are, int64 (batch,), no lane twice; None: all begin anew, and nothing is kept.
            fresh: bool (batch,): the lane begins anew, its past is forgotten; None is all False.
            others: handed to the model.

        Raises:
            ValueError: a lane occurs twice, or goes on here without ever having begun here.
        """
        if lane is None:
            return self.model(input_ids=input_ids, use_cache=False, **others)
        lanes = lane.tolist()
        past = self._lanes.past(lanes, [False] * len(lanes) if fresh is None else fresh.tolist())
        if self.model.config.model_type == "qwen2":
            chunk: Any = SlidingPast(self.model, input_ids, past)
            arguments = chunk.arguments()
        else:
            chunk = _Chunk(past, self.model.config.num_hidden_layers)
            arguments = {"cache_params": chunk}
        output = self.model(input_ids=input_ids, use_cache=False, **arguments, **others)
        self._lanes.keep(lanes, chunk.after)
        return output

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """That of the model, with its own keys."""
        return self.model.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """That of the model."""
        return self.model.load_state_dict(*args, **kwargs)

    def save_state(self, path: Path) -> None:
        """Write the past of all lanes, so that a resumed run goes on as this one would.

        Of several processes each has lanes of its own and needs a file of its own.

        Raises:
            OutputError: it cannot be written.
        """
        beside = path.with_name(f"{path.name}.part")
        try:
            with beside.open("wb") as file:
                torch.save({"lanes": list(self._lanes.rows), "pasts": self._lanes.tables}, file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        # torch tells of some failed writes as RuntimeError.
        except (OSError, RuntimeError) as error:
            beside.unlink(missing_ok=True)
            raise OutputError(f"{path}: cannot write the carried state: {_reason(error)}") from None

    def load_state(self, path: Path) -> None:
        """Take over what `save_state` wrote, in place of all lanes.

        Raises:
            InputError: it cannot be read.
        """
        device = next(self.model.parameters()).device
        try:
            held = torch.load(path, map_location=device, weights_only=True)
            self._lanes = _Lanes(held["lanes"], held["pasts"])
        # torch has no exception of its own for a damaged file.
        except Exception as error:
            raise InputError(f"{path}: cannot read the carried state: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return text.splitlines()[0]


class _Chunk:
    """Stands in for the cache of one forward pass of a Mamba: the past of each layer, and the next.

    It only hands over, so that a layer which is computed again for its gradient finds the same past.
    """

    def __init__(self, past: Sequence[LayerPast] | None, layers: int) -> None:
        self.past = past
        self.after: list[LayerPast] = [()] * layers


def _continue_mixers(model: Any) -> None:
    """Let each mixer of a Mamba take a `_Chunk` for its cache."""
    kinds = {"MambaMixer": mamba_mixer, "Mamba2Mixer": mamba2_mixer}
    for module in model.modules():
        compute = kinds.get(type(module).__name__)
        if compute and not isinstance(module.forward, partial):
            module.forward = partial(_mix, module, compute, module.forward)


def _keep_past_in_checkpoints(model: Any) -> None:
    """Let layers that are computed again for their gradient see the past, which is then the same."""
    for module in model.modules():
        if type(module).__name__ == "Qwen2DecoderLayer":
            module._can_checkpoint_with_cache = True


def _mix(
    mixer: Any, compute: Any, original: Any, hidden: Tensor, cache_params: Any = None, **others: Any
) -> Any:
    if isinstance(cache_params, _Chunk):
        past = cache_params.past[mixer.layer_idx] if cache_params.past else None
        y, cache_params.after[mixer.layer_idx] = compute(mixer, hidden, past)
        return y
    if cache_params is None and others.get("attention_mask") is None:
        return compute(mixer, hidden, None)[0]
    return original(hidden, cache_params=cache_params, **others)


class _Lanes:
    """The past of each lane, as rows of tables: one table for each tensor that a layer carries."""

    def __init__(self, lanes: Sequence[int] = (), tables: Sequence[Sequence[Tensor]] = ()) -> None:
        self.rows = {lane: row for row, lane in enumerate(lanes)}
        self.tables = [tuple(layer) for layer in tables]

    def past(self, lanes: Sequence[int], fresh: Sequence[bool]) -> list[LayerPast] | None:
        """A copy of the past of some lanes, zero where fresh; None where all are."""
        if len(set(lanes)) < len(lanes):
            raise ValueError(f"a lane occurs twice in a batch: {list(lanes)}")
        for lane, begins in zip(lanes, fresh, strict=True):
            if not begins and lane not in self.rows:
                raise ValueError(f"lane {lane} goes on, but its past is not here")
        if all(fresh):
            return None
        device = self.tables[0][0].device
        rows = torch.tensor([self.rows.get(lane, 0) for lane in lanes], device=device)
        anew = torch.tensor(fresh, device=device)
        return [tuple(_rows(table, rows, anew) for table in layer) for layer in self.tables]

    def keep(self, lanes: Sequence[int], after: Sequence[LayerPast]) -> None:
        """Put what follows these lanes in the place of their past."""
        for lane in lanes:
            self.rows.setdefault(lane, len(self.rows))
        rows = torch.tensor([self.rows[lane] for lane in lanes], device=after[0][0].device)
        if not self.tables:
            self.tables = [tuple(part.new_zeros(0, *part.shape[1:]) for part in layer) for layer in after]
        tables = []
        for layer, news in zip(self.tables, after, strict=True):
            wider = [_grown(table, len(self.rows)) for table in layer]
            for table, new in zip(wider, news, strict=True):
                table[rows] = new.to(table.dtype)
            tables.append(tuple(wider))
        self.tables = tables


def _rows(table: Tensor, rows: Tensor, anew: Tensor) -> Tensor:
    past = table[rows]
    past[anew] = 0
    return past


def _grown(table: Tensor, rows: int) -> Tensor:
    missing = rows - len(table)
    return torch.cat([table, table.new_zeros(missing, *table.shape[1:])]) if missing else table
