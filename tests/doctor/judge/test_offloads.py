"""What is said of offloads; what they really do is tried in `tests/doctor/facts/test_card.py`."""

from dataclasses import replace

import pytest

from ecustream.config import CaptureConfig
from ecustream.doctor.facts.card import CardFacts
from ecustream.doctor.judge.offloads import judge_offloads

CARD = CardFacts("e1000e", frozenset(), frozenset({"rx-gro", "rx-gro-list", "rx-gro-hw"}))


def levels(on: set[str], *, outgoing: bool = True) -> list[str]:
    card = replace(CARD, on=frozenset(on))
    return [f.level for f in judge_offloads("eth1", card, CaptureConfig(outgoing=outgoing))]


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        (set(), "ok"),
        ({"rx-gro"}, "warning"),
        ({"rx-lro"}, "warning"),
        ({"rx-gro-hw"}, "warning"),
        ({"rx-gro", "rx-gro-list"}, "problem"),
        ({"rx-gro", "rx-udp-gro-forwarding"}, "problem"),
        ({"rx-gro-list", "rx-udp-gro-forwarding"}, "ok"),
        ({"rx-checksum", "tx-tcp-segmentation"}, "ok"),
    ],
)
def test_receiving(on: set[str], expected: str) -> None:
    """What merges UDP is a problem, what may merge a warning."""
    assert levels(on)[0] == expected


def test_sending() -> None:
    """Cutting UDP late is a warning where this machine's own frames count; cutting TCP is none."""
    assert levels({"tx-udp-segmentation"})[1] == "warning"
    assert levels({"tx-udp-segmentation"}, outgoing=False)[1] == "ok"
    assert levels({"tx-tcp-segmentation", "tx-generic-segmentation"})[1] == "ok"


def test_command() -> None:
    """The advice is one line that switches off all that can be, and says what cannot."""
    card = replace(CARD, on=frozenset({"rx-gro", "rx-gro-hw", "rx-lro", "rx-gro-list"}))
    advice = judge_offloads("eth1", card, CaptureConfig())[0].advice or ""
    assert advice.startswith("`ethtool -K eth1 gro off rx-gro-hw off rx-gro-list off`")
    assert "the driver cannot switch rx-lro off" in advice


def test_not_told() -> None:
    """A driver that tells nothing is not judged."""
    (finding,) = judge_offloads("eth1", CardFacts(), CaptureConfig())
    assert finding.level == "not checked"


@pytest.mark.parametrize(("on", "whom"), [({"rx-vlan-hw-parse"}, "card"), (set(), "kernel")])
def test_tags(on: set[str], whom: str) -> None:
    """Who takes the VLAN tag out is told."""
    finding = judge_offloads("eth1", replace(CARD, on=frozenset(on)), CaptureConfig())[2]
    assert f"taken out by the {whom}" in finding.says
