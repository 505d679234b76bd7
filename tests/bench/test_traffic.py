"""The traffic that the bench makes up."""

from collections import defaultdict

import numpy as np
import pytest

from ecustream.bench.traffic import simulated_lines
from ecustream.scoring.fields import FieldsTokenizer


def test_simulated_lines_are_traffic_of_their_cycles() -> None:
    """Times rise, delta times are since the same PDU's line, cycles are kept; two tokens a line."""
    cycles = {"a": 10_000_000, "b": 100_000_000, "c": 0}
    lines = simulated_lines(cycles, 3000, seed=1)
    assert [line.number for line in lines] == list(range(3000))
    deltas = defaultdict(list)
    last: dict[str, int] = {}
    for before, line in zip([lines[0], *lines], lines, strict=False):
        assert line.time_ns >= before.time_ns
        key = line.stream.key
        assert line.delta_ns == (line.time_ns - last[key] if key in last else None)
        last[key] = line.time_ns
        if line.delta_ns is not None:
            deltas[key].append(line.delta_ns)
    assert np.mean(deltas["a"]) == pytest.approx(10_000_000, rel=0.01)
    assert np.mean(deltas["b"]) == pytest.approx(100_000_000, rel=0.01)
    assert 0 < np.std(deltas["a"]) < 1_000_000
    assert np.mean(deltas["c"]) == pytest.approx(10**9, rel=0.6)
    assert np.std(deltas["c"]) > 10**8
    tokenizer = FieldsTokenizer(cycles)
    assert len(tokenizer.encode(lines).ids) == 2 * 3000 + 1


def test_simulated_lines_have_the_addresses_of_their_keys() -> None:
    """As tokenizers that write addresses down know them; a key that is a name alone has any."""
    keys = ["A|B|ETH1|[fd53::48]:42994|[ff14::3:7f]:42557", "C|ETH2|10.0.0.1:1|239.0.0.1:65535", "D|E"]
    of = {line.stream.key: line.stream for line in simulated_lines(dict.fromkeys(keys, 10_000_000), 30, 1)}
    told = {key: (s.name, s.source, s.src, s.sport, s.dst, s.dport) for key, s in of.items()}
    assert told[keys[0]] == ("A|B", "ETH1", "fd53::48", 42994, "ff14::3:7f", 42557)
    assert told[keys[1]] == ("C", "ETH2", "10.0.0.1", 1, "239.0.0.1", 65535)
    assert told[keys[2]][0] == "D|E"
