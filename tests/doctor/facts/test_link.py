"""What the kernel says of an interface, beside what the command ip shows."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecustream.doctor.facts.link import LinkFacts, parse_link, read_link
from tests.doctor.network import shown
from tests.namespaces import cable, ip, needs_network, sender


@pytest.fixture(scope="module")
def network() -> Iterator[None]:
    """A cable with the ends `a0` and `b0`."""
    with cable("doctor-link"):
        yield


@needs_network
@pytest.mark.usefixtures("network")
class TestReal:
    def test_equals_ip(self) -> None:
        """State, MTU, promiscuity and all counts are those that ip shows."""
        ip("link set b0 mtu 1400")
        ip("link set b0 promisc on")
        with sender("a0") as wire:
            for _ in range(7):
                wire.send(bytes(60))
        link, other = read_link("b0"), shown("b0")
        assert link is not None
        counts = other["stats64"]["rx"]
        assert link.index == other["ifindex"]
        assert (link.mtu, other["mtu"]) == (1400, 1400)
        assert (link.promiscuity, other["promiscuity"]) == (1, 1)
        assert link.up
        assert link.carrier is True
        assert link.rx_packets == counts["packets"] >= 7
        assert (link.rx_errors, link.rx_dropped) == (counts["errors"], counts["dropped"])
        assert (link.rx_missed, link.rx_fifo) == (counts["missed_errors"], counts["fifo_errors"])
        assert (link.rx_over, link.rx_crc) == (counts["over_errors"], counts["crc_errors"])

    def test_down_and_without_carrier(self) -> None:
        """Switched off is not up; where the other end is switched off there is no carrier."""
        ip("link set a0 down")
        link = read_link("b0")
        assert link is not None
        assert (link.up, link.carrier) == (True, False)
        ip("link set b0 down")
        link = read_link("b0")
        assert link is not None
        assert not link.up

    def test_hardware(self) -> None:
        """A tunnel of IP packets is no Ethernet."""
        ip("tuntap add dev tun7 mode tun")
        tunnel, end, loopback = read_link("tun7"), read_link("b0"), read_link("lo")
        assert tunnel is not None
        assert end is not None
        assert loopback is not None
        assert (tunnel.hardware, end.hardware, loopback.hardware) == (65534, 1, 772)

    @pytest.mark.parametrize("name", ["nowhere0", "", "a-name-that-is-too-long-for-it", "a\0b", "ä" * 8])
    def test_no_such_interface(self, name: str) -> None:
        """A name that no interface has, or can have, is None."""
        assert read_link(name) is None


# struct rtnl_link_stats64 of linux/if_link.h, as far as it is read.
STATS64 = (
    *("rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_errors", "tx_errors", "rx_dropped"),
    *("tx_dropped", "multicast", "collisions", "rx_length", "rx_over", "rx_crc", "rx_frame"),
    *("rx_fifo", "rx_missed"),
)


def test_counts() -> None:
    """Each count is read from its own place, also where all are different."""
    attribute = pack("=HH", 4 + 8 * 25, 23) + b"".join(pack("=Q", 2**40 + place) for place in range(25))
    body = pack("=BxHiII", 0, 1, 7, 1, 0) + pack("=HHIHHBxxx", 8, 4, 1500, 5, 33, 1) + attribute
    link = parse_link(pack("=IHHII", 16 + len(body), 16, 0, 1, 0) + body)
    assert link is not None
    assert (link.index, link.mtu, link.carrier) == (7, 1500, True)
    for name in ("rx_packets", "rx_errors", "rx_crc", "rx_dropped", "rx_missed", "rx_fifo", "rx_over"):
        assert getattr(link, name) == 2**40 + STATS64.index(name)


@given(st.binary(max_size=400))
def test_garbage(message: bytes) -> None:
    """Whatever the answer is, it is facts, None, or an OSError."""
    with suppress(OSError):
        assert isinstance(parse_link(message), LinkFacts | None)


@given(st.data())
def test_cut(data: st.DataObject) -> None:
    """So is a true answer that is cut, or has a byte changed."""
    message = bytearray(Path(__file__).with_name("lo.netlink").read_bytes())
    whole = parse_link(bytes(message))
    assert whole is not None
    assert (whole.index, whole.hardware, whole.mtu, whole.up) == (1, 772, 65536, True)
    at = data.draw(st.integers(0, len(message) - 1))
    message[at] = data.draw(st.integers(0, 255))
    cut = bytes(message[: data.draw(st.integers(0, len(message)))])
    with suppress(OSError):
        assert isinstance(parse_link(cut), LinkFacts | None)
