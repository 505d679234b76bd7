"""Datagrams to PDUs, with scapy's PDUTransport and SOMEIP as oracles."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.contrib.automotive.autosar.pdu import PDU, PDUTransport
from scapy.contrib.automotive.someip import SOMEIP
from scapy.packet import Raw

from ecustream.decode.pdus import PROOF, Sockets, guess_layout
from ecustream.errors import ConfigError
from ecustream.ledger import Ledger
from ecustream.traffic import Pdu
from tests.decode.traffic_by_scapy import NONE, SOAD, frame, run, soad, someip, udp_frame

SOMEIP_LAYOUT = {"42557": "someip"}


def split(payloads: list[bytes], layouts: dict[str, str] | None = None) -> tuple[list[Pdu], Ledger]:
    """Decode one datagram for each payload."""
    return run([frame(udp_frame(payload), number) for number, payload in enumerate(payloads)], layouts)


def found(pdus: list[Pdu]) -> list[tuple[int | None, bytes]]:
    """Id and payload of each PDU."""
    return [(pdu.pdu_id, pdu.payload) for pdu in pdus]


def pdu_ends(ledger: Ledger) -> dict[str, int]:
    """How the PDUs ended that gave none."""
    return {end: count for end, count in ledger.as_dict()["pdus"].items() if end != "entered"}


ids = st.integers(1, 0xFFFFFFFF)
chains = st.lists(st.tuples(ids, st.binary(max_size=40)), min_size=1, max_size=6)


@settings(max_examples=100, deadline=None)
@given(chains)
def test_soad_chain_is_what_scapy_put_in(chain: list[tuple[int, bytes]]) -> None:
    """Ids, payloads and order of a chain that scapy's PDUTransport built, known or guessed."""
    made = bytes(PDUTransport(pdus=[PDU(pdu_id=pdu_id) / Raw(payload) for pdu_id, payload in chain]))
    assert made == soad(*chain)
    for layouts in (SOAD, None):
        pdus, ledger = split([made], layouts)
        if layouts is SOAD or guess_layout(made, 0, len(made)) == "soad":
            assert found(pdus) == chain
        assert not pdu_ends(ledger)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 0xFFFE),
            st.integers(0, 0xFFFF),
            st.sampled_from([0, 1, 2, 0x80, 0x81]),
            st.binary(max_size=40),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_someip_messages_are_what_scapy_put_in(messages: list[tuple[int, int, int, bytes]]) -> None:
    """Service and method make the id, the payload follows the header, known or guessed."""
    made = b""
    for service, method, kind, payload in messages:
        made += bytes(SOMEIP(srv_id=service, sub_id=method, msg_type=kind) / Raw(payload))
    for layouts in (SOMEIP_LAYOUT, None):
        pdus, ledger = split([made], layouts)
        assert found(pdus) == [(service << 16 | method, payload) for service, method, _, payload in messages]
        assert not pdu_ends(ledger)


@settings(max_examples=150, deadline=None)
@given(chains, st.data())
def test_cut_soad_chain_keeps_the_good_and_counts_the_bad(
    chain: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    """A chain cut anywhere gives its whole PDUs and one unreadable one for the rest."""
    whole = soad(*chain)
    cut = whole[: data.draw(st.integers(1, len(whole)))]
    starts = [len(soad(*chain[:n])) for n in range(len(chain) + 1)]
    good = max(n for n, start in enumerate(starts) if start <= len(cut))
    left = len(cut) - starts[good]
    pdus, ledger = split([cut], SOAD)
    assert found(pdus) == chain[:good]
    reason = "pdu_trailing_bytes" if left < 8 else "pdu_truncated"
    assert pdu_ends(ledger) == ({f"unreadable{{{reason}}}": 1} if left else {})


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=1, max_size=80), st.sampled_from(["soad", "someip", "none", "auto"]))
def test_any_bytes_give_no_exception_and_no_byte_twice(payload: bytes, layout: str) -> None:
    """Garbage splits into at most what is there."""
    pdus, ledger = split([payload] * 2, {"*": layout})
    assert sum(len(pdu.payload) for pdu in pdus) <= 2 * len(payload)
    assert len(pdus) + sum(pdu_ends(ledger).values()) >= 2


def test_huge_length_is_truncation_and_no_phantom() -> None:
    """Length 0xffffffff and a datagram of one header give what is there, not what is said."""
    pdus, ledger = split([soad((1, b"ab")) + b"\0\0\0\1\xff\xff\xff\xff" + b"cd", soad((2, b""))], SOAD)
    assert found(pdus) == [(1, b"ab"), (2, b"")]
    assert pdu_ends(ledger) == {"unreadable{pdu_truncated}": 1}


def test_empty_datagram_gives_no_phantom_pdu() -> None:
    """A datagram without payload is a filtered frame and no PDU, whatever the layout."""
    for layout in ("soad", "someip", "none", "auto"):
        pdus, ledger = split([b"", b""], {"*": layout})
        assert not pdus
        assert ledger.as_dict()["frames"] == {"entered": 2, "filtered{empty_datagram}": 2}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (someip(5, b"12345678")[:-1], "pdu_truncated"),
        (b"\0" * 15, "pdu_trailing_bytes"),
        (b"\0\0\0\1\0\0\0\7" + b"\0" * 16, "bad_someip_length"),
        (someip(5, b"", tp_offset=0)[:7] + b"\x08" + someip(5, b"", tp_offset=0)[8:16], "bad_someip_length"),
    ],
)
def test_damaged_someip_keeps_the_messages_in_front(bad: bytes, reason: str) -> None:
    """What cannot be a message ends as one unreadable PDU with its reason."""
    pdus, ledger = split([someip(0x12348001, b"ok") + bad], SOMEIP_LAYOUT)
    assert found(pdus) == [(0x12348001, b"ok")]
    assert pdu_ends(ledger) == {f"unreadable{{{reason}}}": 1}


def test_segmented_someip_message_is_one_pdu() -> None:
    """Only the first segment makes a PDU; the others are counted."""
    segments = [someip(7, bytes([n]) * 32, tp_offset=2 * n) for n in range(3)]
    pdus, ledger = split([*segments, someip(7, b"whole")], SOMEIP_LAYOUT)
    assert found(pdus) == [(7, bytes(32)), (7, b"whole")]
    assert pdu_ends(ledger) == {"filtered{someip_tp_segment}": 2}


def test_service_discovery_is_an_ordinary_id() -> None:
    """SD is message 0x8100 of service 0xffff."""
    pdus, _ = split([someip(0xFFFF8100, b"\xc0\0\0\0" + bytes(8))])
    assert found(pdus) == [(0xFFFF8100, b"\xc0\0\0\0" + bytes(8))]


def test_guess_needs_an_exact_chain() -> None:
    """A datagram that does not chain, or is all zeros, is one PDU without an id, and nothing is lost."""
    payloads = [bytes(8), soad((1, b"ab")) + b"x", b"free text", soad((1, b"ab"))]
    pdus, ledger = split(payloads)
    assert found(pdus) == [*((None, payload) for payload in payloads[:3]), (1, b"ab")]
    assert not pdu_ends(ledger)


@pytest.mark.parametrize(
    ("version", "kind", "code", "layout"),
    [
        (1, 0x02, 0, "someip"),
        (1, 0x22, 0, "someip"),
        (1, 0x80, 0x5E, "someip"),
        (0, 0x02, 0, "soad"),
        (2, 0x02, 0, "soad"),
        (1, 0x03, 0, "soad"),
        (1, 0x02, 0x5F, "soad"),
    ],
)
def test_someip_is_guessed_by_its_version_type_and_return_code(
    version: int, kind: int, code: int, layout: str
) -> None:
    """A chain whose payloads cannot be SOME/IP headers is SoAd, also where only the second cannot."""
    body = bytes([0, 0, 0, 1, version, 1, kind, code]) + bytes(4)
    for made in (soad((5, body)), someip(5, b"") + soad((5, body))):
        assert guess_layout(made, 0, len(made)) == layout


def test_layout_is_strict_once_it_is_proven() -> None:
    """After 20 datagrams in sequence damage is damage; before, it is a PDU without an id."""
    good, bad = soad((1, b"abcd")), soad((1, b"abcd"))[:-1]
    pdus, ledger = split([good] * (PROOF - 1) + [bad] + [good] * (PROOF - 1) + [bad])
    assert [pdu.payload for pdu in pdus if pdu.pdu_id is None] == [bad, bad]
    assert not pdu_ends(ledger)
    pdus, ledger = split([good] * PROOF + [bad])
    assert len(pdus) == PROOF
    assert pdu_ends(ledger) == {"unreadable{pdu_truncated}": 1}


def test_proven_headerless_socket_stays_headerless() -> None:
    """A payload that happens to chain is no SoAd on a socket that has shown it has no headers."""
    pdus, _ = split([b"\x01\x02\x03\x04\x05\x06\x07\x08"] * PROOF + [soad((1, b""))])
    assert {pdu.pdu_id for pdu in pdus} == {None}


def test_sockets_learn_apart() -> None:
    """What one destination has proven says nothing about another."""
    bad = soad((1, b"abcd"))[:-1]
    frames = [frame(udp_frame(soad((1, b"abcd")), dport=1000)) for _ in range(PROOF)]
    pdus, _ = run([*frames, frame(udp_frame(bad, dport=2000))])
    assert found(pdus)[-1] == (None, bad)


def test_most_exact_pattern_counts() -> None:
    """Address and port, then port, then the star; addresses in any spelling."""
    sockets = Sockets(
        {"*": "none", "7": "soad", "[FF14:0:0::3:7f]:7": "someip", "ff14::1:7": "none", "10.0.0.1:7": "none"}
    )
    assert sockets.find("ff14::3:7f", 7).layout == "someip"
    assert sockets.find("ff14::1", 7).layout == "none"
    assert sockets.find("10.0.0.1", 7).layout == "none"
    assert sockets.find("ff14::2", 7).layout == "soad"
    assert sockets.find("ff14::2", 8).layout == "none"
    assert Sockets().find("ff14::2", 8).layout == "auto"


@pytest.mark.parametrize(
    "layouts",
    [{"": "soad"}, {"x": "soad"}, {"70000": "soad"}, {"host:7": "soad"}, {"7": "ipdum"}, {"-1": "none"}],
)
def test_wrong_layouts_are_refused(layouts: dict[str, str]) -> None:
    """A wrong pattern or layout is named."""
    with pytest.raises(ConfigError, match="layout"):
        Sockets(layouts)


def test_explicit_none_is_one_pdu_a_datagram() -> None:
    """Where there are no headers nothing is read as one."""
    pdus, _ = split([soad((1, b"ab"))] * 2, NONE)
    assert found(pdus) == [(None, soad((1, b"ab")))] * 2


def test_soad_payload_that_looks_like_someip_is_found_out() -> None:
    """A SoAd socket whose payloads read as SOME/IP headers for long loses no PDU when they stop to."""
    alike = b"\x00\x00\x00\x01\x01\x01\x02\x00"
    chain = [soad((7, alike), (8, alike))] * PROOF + [soad((7, b"abcd"), (8, alike))] * 2
    pdus, ledger = split(chain)
    assert [pdu.pdu_id for pdu in pdus] == [7, 8] * (PROOF + 2)
    assert [pdu.payload for pdu in pdus[-4:]] == [b"abcd", alike] * 2
    assert not any("unreadable" in counter for counter in ledger.as_dict()["pdus"])
