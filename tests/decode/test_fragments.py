"""Fragmented packets, with scapy's own fragmenters as the oracle."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

from ecustream.decode import fragments as module
from ecustream.decode.ip import End, Fragment
from ecustream.ledger import Ledger
from tests.decode.traffic_by_scapy import (
    IPV4_DST,
    IPV4_SRC,
    IPV6_DST,
    IPV6_SRC,
    NONE,
    fragment_ipv4,
    fragment_ipv6,
    frame,
    run,
)

SECOND = 1_000_000_000
LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / Dot1Q(vlan=3)


def pieces(payload: bytes, version: int, size: int, ident: int = 7) -> list[bytes]:
    """Ethernet frames with the fragments of one datagram."""
    upper = UDP(sport=42994, dport=42557) / Raw(payload)
    if version == 4:
        cut = fragment_ipv4(IP(src=IPV4_SRC, dst=IPV4_DST, id=ident) / upper, size)
    else:
        whole = IPv6(src=IPV6_SRC, dst=IPV6_DST) / IPv6ExtHdrFragment(id=ident) / IPv6ExtHdrDestOpt() / upper
        cut = fragment_ipv6(whole, 48 + size)
    return [bytes(LINK / piece) for piece in cut]


def ends(ledger: Ledger) -> dict[str, int]:
    """How the frames ended."""
    return {end: count for end, count in ledger.as_dict()["frames"].items() if end != "entered"}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([4, 6]), st.binary(min_size=1, max_size=400), st.integers(2, 20)),
        min_size=1,
        max_size=4,
    ),
    st.randoms(use_true_random=False),
)
def test_shuffled_fragments_give_the_datagrams(
    made: list[tuple[int, bytes, int]], chance: random.Random
) -> None:
    """Datagrams come out whole in any order, with number and time of the fragment that came last."""
    tagged = [
        (ident, data)
        for ident, (version, payload, eights) in enumerate(made)
        for data in pieces(payload, version, 8 * eights, ident)
    ]
    chance.shuffle(tagged)
    frames = [frame(data, number, 10 * number) for number, (_, data) in enumerate(tagged)]
    last = {ident: number for number, (ident, _) in enumerate(tagged)}
    pdus, ledger = run(frames, NONE, batch=3)
    assert [(pdu.frame, pdu.time_ns, pdu.payload) for pdu in pdus] == [
        (number, 10 * number, made[ident][1])
        for ident, number in sorted(last.items(), key=lambda item: item[1])
    ]
    assert {pdu.flow.vlan for pdu in pdus} == {3}
    assert ends(ledger) == {"decoded": len(frames)}


@pytest.mark.parametrize("version", [4, 6])
def test_missing_fragment_is_given_up_after_its_timeout(version: int) -> None:
    """An incomplete packet ends by capture time, and a late fragment does not revive it."""
    first, *rest = pieces(b"x" * 100, version, 32)
    frames = [frame(data, time_ns=0) for data in rest]
    frames.append(frame(first, time_ns=module.FRAGMENT_TIMEOUT_NS + 1))
    pdus, ledger = run(frames, NONE)
    assert not pdus
    assert ends(ledger) == {"unreadable{fragment_timeout}": len(rest), "unreadable{fragment_incomplete}": 1}


def test_timeout_needs_no_further_fragment() -> None:
    """Ordinary traffic lets time pass for unfinished packets, too."""
    whole = bytes(LINK / IP(src=IPV4_SRC, dst=IPV4_DST) / UDP() / Raw(b"x"))
    lost = pieces(b"x" * 100, 4, 32)[:-1]
    frames = [frame(data) for data in lost] + [frame(whole, time_ns=31 * SECOND)]
    _, ledger = run(frames, NONE, batch=1)
    assert ends(ledger)["unreadable{fragment_timeout}"] == len(lost)


@pytest.mark.parametrize("version", [4, 6])
def test_overlap_discards_the_whole_packet(version: int) -> None:
    """Contradicting pieces spoil a packet, also for the pieces that come later (RFC 5722)."""
    one = pieces(b"x" * 100, version, 32)
    other = pieces(b"y" * 100, version, 48)
    frames = [frame(data) for data in (one[0], other[0], *one[1:])]
    pdus, ledger = run(frames, NONE)
    assert not pdus
    assert ends(ledger) == {"unreadable{fragment_overlap}": len(frames)}


def test_two_ends_of_one_packet_contradict() -> None:
    """A piece beyond the end, or a second end, is an overlap and no datagram."""
    short, long = pieces(b"x" * 40, 4, 32), pieces(b"x" * 200, 4, 32)
    for order in ((short[-1], long[-1]), (long[-1], short[-1]), (short[-1], long[2])):
        pdus, ledger = run([frame(data) for data in order], NONE)
        assert not pdus
        assert ends(ledger) == {"unreadable{fragment_overlap}": 2}


@pytest.mark.parametrize(
    ("offset", "size", "more", "fits"),
    [
        (0, 32, True, True),
        (0, 40, True, False),
        (24, 8, True, True),
        (56, 16, True, False),
        (64, 8, True, True),
        (64, 8, False, True),
        (40, 8, True, False),
        (0, 8, False, False),
        (24, 16, True, False),
    ],
)
def test_piece_beside_another_overlaps_or_not(offset: int, size: int, more: bool, fits: bool) -> None:
    """Beside a piece from 32 to 64: before it, behind it, over either end, inside, ending before it."""
    ends: Counter[End] = Counter()
    fragments = module.Fragments(ends)
    fragments.add("key", 0, Fragment(1, 32, True), 17, bytes(32))
    fragments.add("key", 0, Fragment(1, offset, more), 17, bytes(size))
    fragments.flush()
    assert ends == {End("unreadable", "fragment_incomplete" if fits else "fragment_overlap"): 2}


def test_finished_packets_take_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small packets, one after the other, never reach the bound on bytes."""
    monkeypatch.setattr(module, "MAX_BYTES", 2000)
    frames = [frame(data) for ident in range(50) for data in pieces(b"x" * 100, 4, 64, ident)]
    pdus, ledger = run(frames, NONE)
    assert len(pdus) == 50
    assert ends(ledger) == {"decoded": len(frames)}


def test_duplicate_fragment_is_no_overlap() -> None:
    """A fragment that was captured twice is filtered and the datagram is still whole."""
    made = pieces(b"x" * 100, 6, 32)
    pdus, ledger = run([frame(data) for data in (made[0], *made)], NONE)
    assert [pdu.payload for pdu in pdus] == [b"x" * 100]
    assert ends(ledger) == {"decoded": len(made), "filtered{fragment_duplicate}": 1}


@pytest.mark.parametrize(("bound", "value"), [("MAX_PACKETS", 3), ("MAX_BYTES", 500)])
def test_memory_is_bounded(bound: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bounds the oldest unfinished packets go, and a complete one still comes out."""
    monkeypatch.setattr(module, bound, value)
    frames = [frame(pieces(b"x" * 100, 4, 64, ident)[0]) for ident in range(20)]
    frames += [frame(data) for data in pieces(b"y" * 100, 4, 64, 99)]
    pdus, ledger = run(frames, NONE)
    assert [pdu.payload for pdu in pdus] == [b"y" * 100]
    assert ends(ledger)["unreadable{fragment_too_many}"] >= 16


def test_fragments_of_other_protocols_are_filtered() -> None:
    """Reassembly is not spent on TCP over IPv4; over IPv6 the packet is known when it is whole."""
    short = IP(src=IPV4_SRC, dst=IPV4_DST, id=1) / TCP() / Raw(b"x" * 100)
    frames = [frame(bytes(LINK / piece)) for piece in fragment_ipv4(short, 32)]
    whole = IPv6(src=IPV6_SRC, dst=IPV6_DST) / IPv6ExtHdrFragment(id=1) / TCP() / Raw(b"x" * 100)
    frames += [frame(bytes(LINK / piece)) for piece in fragment_ipv6(whole, 80)]
    pdus, ledger = run(frames, NONE)
    assert not pdus
    assert ends(ledger) == {"filtered{not_udp}": len(frames)}


def test_damaged_datagram_ends_all_its_frames() -> None:
    """A reassembled packet whose UDP header is wrong takes all its frames with it."""
    upper = UDP(sport=1, dport=2, len=500) / Raw(b"x" * 100)
    made = fragment_ipv4(IP(src=IPV4_SRC, dst=IPV4_DST, id=1) / upper, 32)
    _, ledger = run([frame(bytes(LINK / piece)) for piece in made], NONE)
    assert ends(ledger) == {"unreadable{truncated_udp}": len(made)}


def test_atomic_fragment_is_a_whole_packet() -> None:
    """A fragment header that says first and last (RFC 6946) waits for nothing."""
    data = bytes(LINK / IPv6(src=IPV6_SRC, dst=IPV6_DST) / IPv6ExtHdrFragment(id=5) / UDP() / Raw(b"abc"))
    pdus, _ = run([frame(data)], NONE)
    assert [pdu.payload for pdu in pdus] == [b"abc"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 60)), max_size=40), st.data())
def test_any_mixture_of_fragments_ends_every_frame_once(
    picks: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    """Lost, repeated, mixed and late fragments leave balanced books and only true payloads."""
    sets = [
        pieces(bytes([65 + ident]) * 90, version, 32, ident % 2) for ident, version in enumerate((4, 4, 6, 6))
    ]
    frames = []
    for number, (ident, piece, seconds) in enumerate(picks):
        chosen = sets[ident][piece % len(sets[ident])]
        frames.append(frame(chosen, number, seconds * SECOND))
    pdus, _ = run(frames, NONE, batch=data.draw(st.integers(1, 10)))
    assert all(len(pdu.payload) == 90 for pdu in pdus)
