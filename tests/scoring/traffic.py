"""Random lines, and a slow obvious tokenizer of them written from the documentation alone."""

import math
from collections.abc import Sequence

from hypothesis import strategies as st

from ecustream.traffic import Line
from tests.scoring.tiny import CYCLES_NS, make_lines, make_stream

__all__ = ["LINES", "STREAMS", "chunks", "delta_position", "reference_tokens"]

STREAMS = [make_stream(i, key) for i, key in enumerate([*CYCLES_NS, "stranger", "another stranger"])]
"""Streams of every known PDU, in the order of their tokens, and two that no tokenizer knows."""

DELTAS_NS = st.one_of(
    st.none(),
    st.sampled_from([0, 1, 1000, 10_000_000, 1_000_000_000, 10**12, 10**14, 2**62]),
    st.integers(9_000_000, 11_000_000),
    st.integers(0, 10**12),
)
STATES = st.sampled_from([1, 1, 1, 1, 0, 2])
LINES = st.lists(st.tuples(st.sampled_from(STREAMS), DELTAS_NS, STATES), max_size=40).map(make_lines)
"""Lines in any order of streams, so that a stream may come before one of a lower index."""

NAMES_FROM = 3 + 3 + 128 + 64


def delta_position(delta_ns: int, cycle_ns: int) -> tuple[int, float]:
    """First id of the kind of bins that a delta time falls into, and where between them it lies."""
    if cycle_ns:
        width = math.asinh(1 / 0.02) / 32
        position = float(round(math.asinh((delta_ns / cycle_ns - 1) / 0.02) / width) + 32)
        return 6, min(max(position, 0.0), 127.0)
    position = math.log10(max(delta_ns, 1000) / 1000) / 9 * 64
    return 6 + 128, min(position, 63.0)


def reference_tokens(lines: Sequence[Line], cycles_ns: dict[str, int]) -> list[tuple[int | float, int, int]]:
    """What `lines` should become, as (id, field, line); the id of a delta time has a fraction."""
    names = list(cycles_ns)
    state = None
    out: list[tuple[int | float, int, int]] = []
    for i, line in enumerate(lines):
        if line.state != state:
            out.append((3 + line.state, 2, i))
            state = line.state
        key = line.stream.key
        out.append((NAMES_FROM + names.index(key) if key in names else 1, 0, i))
        if line.delta_ns is None:
            out.append((2, 1, i))
        else:
            first, position = delta_position(line.delta_ns, cycles_ns.get(key, 0))
            out.append((first + position, 1, i))
    return out


@st.composite
def chunks(draw: st.DrawFn, count: int) -> list[slice]:
    """Cuts of `count` lines into chunks of random sizes, empty ones among them."""
    cuts = sorted(draw(st.lists(st.integers(0, count), max_size=8)))
    return [slice(a, b) for a, b in zip([0, *cuts], [*cuts, count], strict=True)]
