"""What is said of an interface, for facts of all kinds."""

import errno
from dataclasses import replace

import pytest

from ecustream.config import CaptureConfig
from ecustream.doctor.facts.card import CardFacts
from ecustream.doctor.facts.link import LinkFacts
from ecustream.doctor.facts.right import RingTrial
from ecustream.doctor.judge.interface import judge_link, judge_losses, judge_right, judge_ring

LINK = LinkFacts(3)
CARD = CardFacts("e1000e", frozenset(), speed_mbit=1000, full_duplex=True, rx_slots=256, rx_slots_most=4096)
CONFIG = CaptureConfig()


class TestRight:
    def test_given(self) -> None:
        """Who can open the socket may capture."""
        assert judge_right(None, "/usr/bin/python3").level == "ok"

    @pytest.mark.parametrize(
        ("code", "advises"),
        [
            (errno.EPERM, "`sudo setcap cap_net_raw=ep /usr/bin/python3`"),
            (errno.EAFNOSUPPORT, "RestrictAddressFamilies="),
        ],
    )
    def test_refused(self, code: int, advises: str) -> None:
        """Without the capability it names what gives it, without the address family what takes that away."""
        finding = judge_right(OSError(code, "no"), "/usr/bin/python3")
        assert finding.level == "problem"
        assert advises in (finding.advice or "")


class TestLink:
    def test_well(self) -> None:
        """One finding, with speed, MTU and driver."""
        (finding,) = judge_link("eth1", LINK, CARD, [])
        assert finding.level == "ok"
        assert finding.says == "is up, 1000 Mbit/s full duplex, MTU 1500, driver e1000e"
        assert finding.figures == {"speed_mbit": 1000, "mtu_bytes": 1500}

    @pytest.mark.parametrize(
        ("link", "says", "advises"),
        [
            (None, "does not exist; there are: lo, eth0", "ip -brief link"),
            (replace(LINK, hardware=65534), "no Ethernet interface (hardware type 65534)", "Ethernet"),
            (replace(LINK, up=False, carrier=False), "switched off", "`ip link set eth1 up`"),
            (replace(LINK, carrier=False), "no carrier", "cable"),
        ],
    )
    def test_nothing_can_come(self, link: LinkFacts | None, says: str, advises: str) -> None:
        """Where no frame can come that is the one finding, a problem."""
        (finding,) = judge_link("eth1", link, CARD, ["lo", "eth0"])
        assert (finding.level, finding.of) == ("problem", "eth1")
        assert says in finding.says
        assert advises in (finding.advice or "")

    def test_less_than_well(self) -> None:
        """Half duplex and a small MTU are warnings; a carrier and a speed that are not told are none."""
        card = replace(CARD, full_duplex=False)
        link = replace(LINK, carrier=None, mtu=1400)
        assert [f.level for f in judge_link("eth1", link, card, [])] == ["ok", "warning", "warning"]
        assert [f.level for f in judge_link("eth1", LINK, CardFacts(), [])] == ["ok"]


class TestRing:
    def test_refused(self) -> None:
        """What making it has said is the problem."""
        (finding,) = judge_ring("eth1", RingTrial("no memory for a ring of 64 MiB"), CONFIG, CARD)
        assert (finding.level, finding.says) == ("problem", "no memory for a ring of 64 MiB")

    @pytest.mark.parametrize(
        ("became", "wanted", "on", "level"),
        [
            (True, True, {"rx-vlan-filter"}, "ok"),
            (False, True, set(), "warning"),
            (False, False, set(), "ok"),
            (False, False, {"rx-vlan-filter"}, "warning"),
        ],
    )
    def test_promiscuous(self, became: bool, wanted: bool, on: set[str], level: str) -> None:
        """It must become promiscuous where it is to; where it is not, the card must not filter VLANs."""
        config, card = CaptureConfig(promiscuous=wanted), replace(CARD, on=frozenset(on))
        first, second = judge_ring("eth1", RingTrial(None, became), config, card)
        assert (first.level, second.level) == ("ok", level)


class TestLosses:
    def test_none(self) -> None:
        """Nothing lost is well, also where the kernel had no use for some frames."""
        assert judge_losses("eth1", None, replace(LINK, rx_packets=100, rx_dropped=50), CARD).level == "ok"

    @pytest.mark.parametrize("counter", ["rx_missed", "rx_fifo", "rx_over"])
    def test_since_it_was_made(self, counter: str) -> None:
        """Frames that the card lost are a warning, with the command that gives it more room."""
        lost = replace(LINK, rx_packets=10_000)
        object.__setattr__(lost, counter, 5)
        finding = judge_losses("eth1", None, lost, CARD)
        assert finding.level == "warning"
        assert f"lost 5 frames of 10,000 since it was made ({counter} 5)" in finding.says
        assert "`ethtool -G eth1 rx 4096` (now 256)" in (finding.advice or "")
        largest = replace(CARD, rx_slots=4096)
        assert "ethtool -S eth1" in (judge_losses("eth1", None, lost, largest).advice or "")
        assert judge_losses("eth1", None, replace(lost, rx_packets=10**8), CARD).level == "ok"

    def test_while_it_looked(self) -> None:
        """What was lost long ago does not count then, and a single frame that is lost is a problem."""
        before = replace(LINK, rx_packets=10**9, rx_missed=70, rx_crc=9)
        assert judge_losses("eth1", before, replace(before, rx_packets=10**9 + 5), CARD).level == "ok"
        assert judge_losses("eth1", before, replace(before, rx_missed=71), CARD).level == "problem"
        assert judge_losses("eth1", before, replace(before, rx_crc=10), CARD).level == "warning"
