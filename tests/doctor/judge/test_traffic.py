"""What is said of traffic beside a bundle, a ring and a scorer."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecustream.doctor.facts.link import LinkFacts
from ecustream.doctor.facts.model import ModelFacts
from ecustream.doctor.facts.traffic import Seen
from ecustream.doctor.judge.model import judge_speed
from ecustream.doctor.judge.traffic import (
    judge_known,
    judge_load,
    judge_ring_time,
    known_share,
    ring_seconds,
)
from ecustream.scoring.manifest import BundleInfo, BundlePdu

FLOW = "10.0.0.1:42994|239.0.0.1:42557"
NAMES = ("ESC_03", "ESP_24", "Motor_15")


def info(key: str = "stream", cycle_ns: int = 10_000_000) -> BundleInfo:
    """A bundle that knows three PDUs of the bus ETH1."""
    keys = NAMES if key == "name" else [f"{name}|ETH1|{FLOW}" for name in NAMES]
    pdus = [BundlePdu(one, name, "ETH1", cycle_ns) for one, name in zip(keys, NAMES, strict=True)]
    return BundleInfo(1, "fields", [], 2.0, 64, 64, key, pdus, "", {}, [], {})


def seen(counts: Mapping[str, int], bus: str = "ETH1", key: str = "stream") -> Seen:
    """Two seconds of so many lines of these PDUs on a bus."""
    part = Seen("eth1", 2.0, frames=sum(counts.values()))
    for name, count in counts.items():
        one = name if key == "name" else f"{name}|{bus}|{FLOW}"
        part.lines[one], part.names[one], part.buses[one] = count, name, bus
    return part


ALL = {"ESC_03": 100, "ESP_24": 100, "Motor_15": 100}


class TestKnown:
    def test_all(self) -> None:
        """Traffic of the bundle's vehicle is well, with the share and rate."""
        (finding,) = judge_known(seen(ALL), info())
        assert finding.level == "ok"
        assert finding.figures == {"known_share": 1.0, "lines": 300, "lines_per_s": 150.0}

    def test_other_name_of_the_bus(self) -> None:
        """Where the bundle would know the lines by another name of the bus, it says which option to give."""
        (finding,) = judge_known(seen(ALL, "eth1"), info())
        assert finding.level == "problem"
        assert "the bundle knows bus ETH1, this one is called eth1" in finding.says
        assert "`--source ETH1`" in (finding.advice or "")

    def test_name_alone(self) -> None:
        """A bundle whose PDUs are known by name alone does not mind what the bus is called."""
        (finding,) = judge_known(seen(ALL, "eth1", "name"), info("name"))
        assert finding.level == "ok"

    def test_other_vehicle(self) -> None:
        """Where the bundle knows next to nothing by any name, it is of another vehicle."""
        (finding,) = judge_known(seen({"A": 50, "B": 30, "C": 10, "D": 5, "E": 4, "ESC_03": 1}), info())
        assert finding.level == "problem"
        assert "mostly A, B, C and 2 more" in finding.says
        assert "--model" in (finding.advice or "")

    @pytest.mark.parametrize(
        ("strange", "level"), [(33, "ok"), (34, "warning"), (2700, "warning"), (2701, "problem")]
    )
    def test_shares(self, strange: int, level: str) -> None:
        """Below 90 % known is a warning; below 10 %, where a run refuses, a problem."""
        assert judge_known(seen({"New_01": strange, **ALL}), info())[0].level == level

    def test_absent(self) -> None:
        """Where most of the bundle's cyclic PDUs do not come although they had time, it is told."""
        found = judge_known(seen({"ESC_03": 100}), info())
        assert [finding.level for finding in found] == ["ok", "warning"]
        assert "2 of 3 cyclic PDUs" in found[1].says
        assert len(judge_known(seen({"ESC_03": 100}), info(cycle_ns=10**9))) == 1
        assert len(judge_known(seen({"ESC_03": 100, "ESP_24": 3}), info())) == 1

    def test_nothing_came(self) -> None:
        """No line is a warning where nothing came, and a problem where something came that is no line."""
        silent = Seen("eth1", 5.0, before=LinkFacts(3, rx_packets=5), after=LinkFacts(3, rx_packets=5))
        assert judge_known(silent, info())[0].level == "warning"
        other = replace(silent, after=LinkFacts(3, rx_packets=95))
        assert "90 frames did, none of them UDP" in judge_known(other, info())[0].says
        assert judge_known(replace(silent, frames=7), info())[0].level == "problem"
        unread = judge_known(replace(silent, frames=7, undecoded=7), info())[0]
        assert (unread.level, "input.layouts" in (unread.advice or "")) == ("problem", True)


@given(st.dictionaries(st.sampled_from((*NAMES, "A", "B")), st.integers(0, 10**6)))
def test_known_share(counts: dict[str, int]) -> None:
    """It is a share, and that of the lines which are not strange."""
    part = seen(counts)
    share = known_share(part, frozenset(pdu.key for pdu in info().pdus))
    total = sum(counts.values())
    known = sum(count for name, count in counts.items() if name in NAMES)
    assert share == (known / total if total else 0.0)


class TestLoad:
    @pytest.mark.parametrize(("scored", "level"), [(301, "ok"), (299, "warning"), (149, "problem")])
    def test_two_interfaces(self, scored: float, level: str) -> None:
        """What comes on all of them must be scored; more than half of what can be is a warning."""
        half = seen({"ESC_03": 150})
        finding = judge_load([half, half], scored)
        assert (finding.level, finding.figures["lines_per_s"]) == (level, 150.0)

    @pytest.mark.parametrize(("scored", "level"), [(1001, "ok"), (999, "warning"), (499, "problem")])
    def test_own_traffic(self, scored: float, level: str) -> None:
        """The same holds for the traffic that the bundle was made of."""
        assert judge_speed(ModelFacts("qwen2", 1, 0.5, scored, 500.0)).level == level


class TestRing:
    def test_slow_traffic(self) -> None:
        """However little comes, a block is used up every 10 ms: 64 MiB hold 10 s."""
        assert ring_seconds(Seen("eth1", 5.0), 64) == pytest.approx(10.24)

    def test_fast_traffic(self) -> None:
        """100,000 frames/s of 910 bytes take 95 MiB/s in the ring."""
        fast = Seen("eth1", 2.0, frames=200_000, frame_bytes=182_000_000)
        assert ring_seconds(fast, 95) == pytest.approx(1.0, rel=0.01)
        assert [finding.level for finding in judge_ring_time(fast, 94)] == ["warning"]
        assert [finding.level for finding in judge_ring_time(fast, 95)] == ["ok"]
        assert judge_ring_time(fast, 10)[0].advice == "capture.ring_mib = 191"
        assert judge_ring_time(replace(fast, frame_bytes=10**12), 64)[0].advice == "capture.ring_mib = 2048"

    def test_dropped(self) -> None:
        """Frames that the kernel dropped are a problem, however long the ring should last."""
        part = Seen("eth1", 2.0, frames=100, dropped=3)
        (finding,) = judge_ring_time(part, 64)
        assert (finding.level, finding.figures["dropped"]) == ("problem", 3)

    def test_outage(self) -> None:
        """An outage while it looked is told."""
        found = judge_ring_time(Seen("eth1", 2.0, troubles=["interface eth1 is down"]), 64)
        assert [finding.level for finding in found] == ["warning", "ok"]


def test_seen_counts() -> None:
    """The rate is that of all lines, and 0 where no time passed."""
    part = seen(ALL)
    assert (part.count, part.lines_per_s) == (300, 150.0)
    assert Seen("x", 0.0, Counter(a=1)).lines_per_s == 0.0
