"""Lines of made-up traffic, for the benchmark of a model."""

import re
from collections.abc import Mapping

import numpy as np

from ecustream.traffic import STATE_NORMAL, Line, Stream

__all__ = ["simulated_lines"]

_JITTER = 0.01
_ADDRESSED_KEY = re.compile(r"(.*)\|(.*)\|(.*):(\d+)\|(.*):(\d+)", re.DOTALL)
_START_NS = 1_700_000_000_000_000_000


def simulated_lines(cycles_ns: Mapping[str, int], count: int, seed: int) -> list[Line]:
    """Lines of PDUs that keep their cycles up to 1 %; those without one come at random, once a second.

    Args:
        cycles_ns: cycle by key; 0 where there is none.
        count: how many lines.
        seed: of the noise.
    """
    random = np.random.default_rng(seed)
    streams = [_stream(i, key) for i, key in enumerate(cycles_ns)]
    periods_ns = [period or 10**9 for period in cycles_ns.values()]
    # A second more than needed, so that the noise leaves enough.
    needed_ns = count / sum(1 / period for period in periods_ns) + 1e9
    times, of = [], []
    for stream, period in zip(streams, periods_ns, strict=True):
        amount = int(needed_ns / period) + 2
        if cycles_ns[stream.key]:
            mine = (random.random() + np.arange(amount)) * period + random.normal(0, _JITTER * period, amount)
        else:
            mine = np.cumsum(random.exponential(period, amount))
        times.append(np.sort(np.abs(mine).astype(np.int64)))
        of.append(np.full(amount, stream.index))
    time_ns, stream_of = np.concatenate(times), np.concatenate(of)
    order = np.argsort(time_ns, kind="stable")[:count]
    last: dict[int, int] = {}
    lines = []
    for number, (time, index) in enumerate(
        zip(time_ns[order].tolist(), stream_of[order].tolist(), strict=True)
    ):
        delta = time - last[index] if index in last else None
        last[index] = time
        lines.append(Line(number, number + 1, _START_NS + time, streams[index], STATE_NORMAL, delta))
    return lines


def _stream(index: int, key: str) -> Stream:
    """The stream of a key of `ecustream.decode.streams`; where that is a name alone, with some addresses."""
    told = _ADDRESSED_KEY.fullmatch(key)
    if told is None:
        return Stream(index, key, key, "ETH1", "10.0.0.1", 42994, "239.0.0.1", 42557)
    name, source, src, sport, dst, dport = told.groups()
    return Stream(index, key, name, source, src.strip("[]"), int(sport), dst.strip("[]"), int(dport))
