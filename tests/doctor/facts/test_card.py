"""What drivers say of themselves, on the ends of a cable."""

import threading
import time
from collections.abc import Iterator

import pytest

from ecustream.capture.live import LiveCapture
from ecustream.config import CaptureConfig
from ecustream.doctor.facts.card import CardFacts, read_card
from ecustream.doctor.facts.right import try_ring
from ecustream.doctor.findings import Level
from ecustream.doctor.judge.offloads import judge_offloads
from ecustream.ledger import Ledger
from tests.doctor.network import BYTES, DATAGRAMS, addresses, send_segmented, shown, switch
from tests.namespaces import cable, needs_network, wait_for

pytestmark = needs_network
HEADERS = 14 + 20 + 8


@pytest.fixture(autouse=True)
def network() -> Iterator[None]:
    """A cable with the ends `a0` and `b0`, over which a0 sends IP."""
    with cable("doctor-card"):
        addresses(shown("b0")["address"])
        yield


def captured(interface: str) -> list[int]:
    """The lengths of the frames that a run gets of ten datagrams in one call."""
    capture = LiveCapture(interface, Ledger())
    lengths: list[int] = []

    def read() -> None:
        for piece in capture:
            assert isinstance(piece, list)
            lengths.extend(frame.wire_length for frame in piece)

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.1)
    send_segmented()
    wait_for(lambda: sum(length - HEADERS for length in lengths) == DATAGRAMS * BYTES)
    capture.stop()
    reader.join()
    return lengths


def level(interface: str, check: str) -> Level:
    """How the offloads of an interface are judged."""
    findings = judge_offloads(interface, read_card(interface), CaptureConfig())
    return next(finding.level for finding in findings if finding.check == check)


CUT, MERGED = [HEADERS + BYTES] * DATAGRAMS, [HEADERS + DATAGRAMS * BYTES]


def test_gro_alone() -> None:
    """GRO alone is a warning, and merges no UDP here."""
    switch("a0", "tx-udp-segmentation", False)
    assert level("b0", "offloads") == "ok"
    switch("b0", "rx-gro", True)
    assert "rx-gro" in (read_card("b0").on or ())
    assert level("b0", "offloads") == "warning"
    assert captured("b0") == CUT


@pytest.mark.parametrize("feature", ["rx-udp-gro-forwarding", "rx-gro-list"])
def test_what_merges_udp(feature: str) -> None:
    """With either of these GRO makes one frame of several: a problem; without GRO they do nothing."""
    switch("a0", "tx-udp-segmentation", False)
    switch("b0", "rx-gro", True)
    switch("b0", feature, True)
    assert captured("b0") == MERGED
    assert level("b0", "offloads") == "problem"
    switch("b0", "rx-gro", False)
    assert captured("b0") == CUT
    assert level("b0", "offloads") == "ok"


def test_sending() -> None:
    """What a program sends in one call is captured as one frame, unless the card is not to cut it."""
    assert captured("a0") == MERGED
    assert level("a0", "offloads, sending") == "warning"
    switch("a0", "tx-udp-segmentation", False)
    assert captured("a0") == CUT
    assert level("a0", "offloads, sending") == "ok"


def test_asked_for_but_not_in_force() -> None:
    """An offload that lacks what it needs is off, although it was asked for."""
    assert "tx-udp-segmentation" in (read_card("a0").on or ())
    switch("a0", "tx-checksum-ip-generic", False)
    assert "tx-udp-segmentation" not in (read_card("a0").on or ())
    assert "tx-udp-segmentation" in read_card("a0").switchable
    assert captured("a0") == CUT


def test_cable() -> None:
    """A cable of the kernel has a driver, a speed and duplex, and no clock."""
    card = read_card("b0")
    assert (card.driver, card.speed_mbit, card.full_duplex, card.clock) == ("veth", 10_000, True, None)
    assert "rx-gro" in card.switchable
    assert "rx-vlan-filter" not in card.switchable


def test_no_such_interface() -> None:
    """Of what is not there nothing is known."""
    assert read_card("nowhere0") == CardFacts()


@pytest.mark.parametrize("promiscuous", [True, False])
def test_ring(promiscuous: bool) -> None:
    """A ring is tried as a run would make it, and gone afterwards."""
    trial = try_ring(shown("b0")["ifindex"], "b0", CaptureConfig(ring_mib=1, promiscuous=promiscuous))
    assert (trial.refusal, trial.promiscuous) == (None, promiscuous)
    assert shown("b0")["promiscuity"] == 0


def test_ring_of_what_is_gone() -> None:
    """An interface that went away is a refusal, no exception."""
    assert "nowhere0" in (try_ring(4711, "nowhere0", CaptureConfig(ring_mib=1)).refusal or "")
