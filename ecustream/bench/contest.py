"""Lets our network and its peers score the same lines in turn, as fast as they can."""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ecustream.bench.bodies import Body, Lane
from ecustream.bench.peers import (
    HuggingFaceRolling,
    Recomputing,
    hugging_face_model,
    hugging_face_pass,
    own_pass,
)
from ecustream.scoring.network import AnyNetwork

__all__ = ["OURS", "OWN_WHOLE", "ROLLING", "WHOLE", "Contest"]

OURS = "ecustream"
ROLLING = "transformers, cache"
WHOLE = "transformers, window"
OWN_WHOLE = "ecustream, window"
"""Whole windows are computed again for every line, as in the paper; caches roll."""

_TOLERANCE_NATS = 1e-3
_BF16_MEAN_TOLERANCE_NATS = 0.05

Row = dict[str, Any]


class Contest:
    """All contenders over one body, each with a stream of its own.

    Args:
        body: model and traffic.
        network: our network of that model, with room for two streams.
        device: where the peers are computed.
        dtype: in which they are.
        chunks: lines a call; whole windows are computed for one line a call.
        longest_call_s: chunks are left out of which a call would take longer, except the first.
    """

    def __init__(
        self,
        body: Body,
        network: AnyNetwork,
        *,
        device: torch.device,
        dtype: torch.dtype,
        chunks: Sequence[int],
        longest_call_s: float,
    ) -> None:
        self._body = body
        self._dtype = dtype
        self._chunks = chunks
        self._longest_call_s = longest_call_s
        self._max_chunk = network.max_chunk
        self._window_lines = -(-body.window_tokens // body.tokens_per_line)
        self._lanes = {OURS: body.open_lane(network)}
        self._notes: dict[str, str] = {}
        self._rates: dict[tuple[str, int], list[float]] = {}
        if network.serving != "rolling":
            why = f"left out: the network is served as {network.serving}, not from a rolling cache"
            self._notes = dict.fromkeys((ROLLING, WHOLE, OWN_WHOLE), why)
            return
        passes = {OWN_WHOLE: own_pass(network)}
        try:
            theirs = hugging_face_model(body.config, body.weights, device=device, dtype=dtype)
        except ImportError:
            self._notes = dict.fromkeys((ROLLING, WHOLE), "left out: transformers is not installed")
        except ValueError as error:
            self._notes = dict.fromkeys((ROLLING, WHOLE), f"left out: transformers: {error}")
        else:
            self._lanes[ROLLING] = body.open_lane(HuggingFaceRolling(theirs, network))
            passes[WHOLE] = hugging_face_pass(theirs)
        for who, whole_pass in passes.items():
            self._lanes[who] = body.open_lane(Recomputing(whole_pass, network, body.window_tokens))

    @property
    def ours(self) -> Lane:
        """Our own stream."""
        return self._lanes[OURS]

    def agreement(self) -> list[Row]:
        """Whether our scores are those of transformers; the keys are documented at `bench_score`."""
        # Ours in other chunks than theirs, and so far that its cache has moved.
        lines = -(-(3 * self._body.window_tokens + self._max_chunk) // self._body.tokens_per_line)
        fifth = max(1, self._window_lines // 5)
        rolling = self._compared(ROLLING, _cut(lines, self._window_lines), OURS, [7, *_cut(lines - 7, fifth)])
        # Before a window is full its first token is held against a uniform guess by one and not by another.
        filled = [self._window_lines, 1, 1, 1]
        return [rolling, self._compared(WHOLE, filled, OWN_WHOLE, filled, skip=1)]

    def _compared(
        self, one: str, ones: Sequence[int], other: str, others: Sequence[int], skip: int = 0
    ) -> Row:
        row: Row = {"with": one, "note": self._notes.get(one)}
        if row["note"]:
            return row | dict.fromkeys(("tokens", "max_nats", "mean_nats", "tolerance_nats", "agrees"))
        nats = []
        for who, sizes in ((one, ones), (other, others)):
            self._lanes[who].reset()
            nats.append(np.concatenate([self._lanes[who].nats(size) for size in sizes][skip:]))
        difference = np.abs(nats[0].astype(np.float64) - nats[1])
        largest, mean = float(difference.max()), float(difference.mean())
        fp32 = self._dtype == torch.float32
        tolerance = _TOLERANCE_NATS if fp32 else _BF16_MEAN_TOLERANCE_NATS
        return row | {
            "tokens": len(difference),
            "max_nats": largest,
            "mean_nats": mean,
            "tolerance_nats": tolerance,
            # In this direction nan does not agree.
            "agrees": (largest if fp32 else mean) <= tolerance,
        }

    def warm(self) -> None:
        """Fill every window, and try each chunk, smallest first."""
        for who, lane in self._lanes.items():
            lane.score(self._window_lines + 1)
            call_s, before = 0.0, 0
            for chunk in sorted(self._chunks) if who in (OURS, ROLLING) else (1,):
                if before and call_s * chunk / before > self._longest_call_s:
                    break
                lane.score(chunk)
                begin_s = time.perf_counter()
                lane.score(chunk)
                call_s, before = time.perf_counter() - begin_s, chunk
                self._rates[who, chunk] = []

    def round(self, seconds: float) -> None:
        """Measure everybody once, for so many seconds at each chunk."""
        for (who, chunk), rates in sorted(self._rates.items(), key=lambda item: item[0][1]):
            lane, lines, begin_s = self._lanes[who], 0, time.perf_counter()
            while not lines or time.perf_counter() - begin_s < seconds:
                lane.score(chunk)
                lines += chunk
            rates.append(lines / (time.perf_counter() - begin_s))

    def rows(self) -> list[Row]:
        """The speed of everybody at each chunk; the keys are documented at `bench_score`."""
        chunks = {OURS: self._chunks, ROLLING: self._chunks, WHOLE: (1,), OWN_WHOLE: (1,)}
        return [self._row(who, chunk) for who, sizes in chunks.items() for chunk in sizes]

    def _row(self, who: str, chunk: int) -> Row:
        rates = self._rates.get((who, chunk))
        if not rates:
            slow = f"left out: a call would take more than {self._longest_call_s:g} s"
            keys = ("lines_per_s", "lines_per_s_median", "tokens_per_s", "ms_per_call", "ours_is")
            return {"who": who, "chunk_lines": chunk, **dict.fromkeys(keys)} | {
                "note": self._notes.get(who, slow)
            }
        best = max(rates)
        ours = self._rates.get((OURS, chunk))
        return {
            "who": who,
            "chunk_lines": chunk,
            "lines_per_s": best,
            "lines_per_s_median": statistics.median(rates),
            "tokens_per_s": best * self._body.tokens_per_line,
            "ms_per_call": chunk / best * 1e3,
            "ours_is": max(ours) / best if ours else None,
            "note": None,
        }


def _cut(lines: int, step: int) -> list[int]:
    """Sizes of at most `step` that add up to `lines`."""
    return [min(step, lines - first) for first in range(0, lines, step)]
