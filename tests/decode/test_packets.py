"""Frames to datagrams, with scapy as the oracle."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, Jumbo
from scapy.layers.l2 import ARP, CookedLinux, CookedLinuxV2, Dot1Q, Ether
from scapy.packet import Raw

from ecustream.decode import packets
from ecustream.decode.addresses import canonical_address
from ecustream.traffic import Flow, Frame, Pdu
from tests.decode.traffic_by_scapy import (
    IPV4_DST,
    IPV4_SRC,
    IPV6_DST,
    IPV6_SRC,
    NONE,
    SOAD,
    datagrams,
    frame,
    run,
    soad,
    udp_frame,
)

IP4 = IP(src=IPV4_SRC, dst=IPV4_DST)
IP6 = IPv6(src=IPV6_SRC, dst=IPV6_DST)
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
DATAGRAM = UDP(sport=42994, dport=42557) / Raw(b"payload")

few = settings(max_examples=150, deadline=None)


@few
@given(datagrams(st.binary(min_size=1, max_size=300)))
def test_datagram_of_any_headers_is_what_scapy_put_in(made: tuple[bytes, Flow, bytes]) -> None:
    """Tags, options, extension headers and padding change neither the flow nor the payload."""
    data, flow, payload = made
    pdus, ledger = run([frame(data, number=7, time_ns=123)], NONE)
    canonical = flow._replace(src=canonical_address(flow.src), dst=canonical_address(flow.dst))
    assert pdus == [Pdu(7, 123, canonical, None, payload)]
    assert ledger.ended("frames", "decoded") == 1


@few
@given(datagrams(st.binary(min_size=1, max_size=40)), st.data())
def test_frame_cut_anywhere_ends_once_and_gives_only_whole_datagrams(
    made: tuple[bytes, Flow, bytes], data: st.DataObject
) -> None:
    """A cut frame is a whole datagram, when only padding is gone, or is counted as unreadable."""
    whole, _, payload = made
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    pdus, ledger = run([frame(cut), frame(cut, wire_length=len(whole) + 1)], NONE)
    assert [pdu.payload for pdu in pdus] in ([], [payload, payload])
    assert ledger.ended("frames", "decoded") + ledger.ended("frames", "unreadable") == 2


@few
@given(
    datagrams(st.binary(min_size=1, max_size=60)),
    st.lists(st.tuples(st.integers(0, 120), st.binary(min_size=1, max_size=4)), min_size=1, max_size=6),
    st.sampled_from([1, 101, 113, 276, 228, 229, 147]),
)
def test_flipped_bytes_never_raise_and_each_frame_ends_once(
    made: tuple[bytes, Flow, bytes], flips: list[tuple[int, bytes]], linktype: int
) -> None:
    """Mutated frames, with the shortcut of the sound frame in place, leave balanced books."""
    sound = made[0]
    frames = [frame(sound)]
    for at, patch in flips:
        mutated = sound[:at] + patch + sound[at + len(patch) :]
        frames += [frame(mutated), frame(mutated, linktype=linktype), frame(sound)]
    run(frames)
    run(frames, SOAD)


@st.composite
def traffic(draw: st.DrawFn) -> list[Frame]:
    """Sound, cut, padded and mutated frames of a few flows, so that shortcuts are made, hit and missed."""
    payload = soad(
        *draw(st.lists(st.tuples(st.integers(1, 9), st.binary(max_size=4)), min_size=1, max_size=3))
    )
    bases = [
        udp_frame(payload, version, vlan=vlan)
        for version in (4, 6)
        for vlan in draw(st.sampled_from([(3, None), (4, 3)]))
    ]
    bases.append(draw(datagrams(st.just(payload)))[0])
    frames: list[Frame] = []
    for number in range(draw(st.integers(2, 30))):
        data = draw(st.sampled_from(bases))
        change = draw(st.sampled_from(["none", "none", "cut", "pad", "flip", "flip"]))
        at = draw(st.integers(0, len(data) - 1))
        if change == "cut":
            data = data[:at]
        elif change == "pad":
            data += b"\0" * (1 + at % 30)
        elif change == "flip":
            data = data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
        frames.append(frame(data, number, number, wire_length=draw(st.sampled_from([0, 2000]))))
    return frames


@settings(max_examples=300, deadline=None)
@given(traffic())
def test_shortcuts_change_nothing(frames: list[Frame]) -> None:
    """The decoder gives the same PDUs and the same ledger without its shortcuts."""
    with pytest.MonkeyPatch.context() as patch:
        for layouts in (None, SOAD):
            pdus, ledger = run(frames, layouts)
            patch.setattr(packets, "_SHORTEST", 1 << 30)
            slow_pdus, slow_ledger = run(frames, layouts)
            patch.undo()
            assert (pdus, ledger.as_dict()) == (slow_pdus, slow_ledger.as_dict())


def test_shortcuts_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second frame of a flow does not go the general way, whatever its identification is."""
    ways: list[int] = []
    general = packets.PacketDecoder._decode_any

    def spy(self: packets.PacketDecoder, one: Frame, *rest: object) -> None:
        ways.append(one.number)
        general(self, one, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(packets.PacketDecoder, "_decode_any", spy)
    payload = soad((1, b"12345678"))
    frames: list[Frame] = []
    for version in (4, 6):
        for vlan in (None, 3):
            for _ in range(3):
                data = bytearray(udp_frame(payload, version, vlan=vlan))
                if version == 4:
                    data[14 + 4 * (vlan is not None) + 4] = len(frames)
                frames.append(frame(bytes(data), len(frames)))
    pdus, _ = run(frames, SOAD)
    assert ways == [0, 3, 6, 9]
    assert [pdu.payload for pdu in pdus] == [b"12345678"] * 12


def test_stacked_tags_take_no_shortcut_made_for_one() -> None:
    """Frames with two tags that differ only in the destination port go to their own flows."""
    link = ETHER / Dot1Q(vlan=2) / Dot1Q(vlan=3)
    frames = [frame(bytes(link / IP4 / UDP(sport=1, dport=dport) / Raw(b"payload"))) for dport in (5, 6, 5)]
    pdus, _ = run(frames, NONE)
    assert [pdu.flow.dport for pdu in pdus] == [5, 6, 5]


def test_full_tables_are_learnt_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """More flows and shortcuts than are remembered change no PDU."""
    frames = [frame(udp_frame(soad((n, b"x")), sport=n), n) for n in range(1, 40)] * 2
    expected, _ = run(frames, SOAD)
    monkeypatch.setattr(packets, "MAX_FLOWS", 5)
    monkeypatch.setattr(packets, "MAX_SHORTCUTS", 3)
    pdus, ledger = run(frames, SOAD)
    assert pdus == expected
    assert ledger.notes["flows_forgotten"] > 0


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (bytes(ETHER / ARP()), "filtered{not_ip}"),
        (bytes(Ether(type=60) / Raw(bytes(60))), "filtered{not_ip}"),
        (bytes(ETHER / IP4 / TCP()), "filtered{not_udp}"),
        (bytes(ETHER / IP6 / TCP()), "filtered{not_udp}"),
        (bytes(ETHER / IP6 / UDP()), "filtered{empty_datagram}"),
        (b"", "unreadable{truncated_ethernet}"),
        (bytes(ETHER)[:13], "unreadable{truncated_ethernet}"),
        (bytes(ETHER / Dot1Q(vlan=3))[:17], "unreadable{truncated_vlan}"),
        (bytes(ETHER / Dot1Q() / Dot1Q() / Dot1Q() / IP4 / DATAGRAM), "unreadable{too_many_vlan_tags}"),
        (bytes(ETHER / IP4)[:33], "unreadable{truncated_ip}"),
        (bytes(ETHER / IP6)[:53], "unreadable{truncated_ip}"),
        (bytes(ETHER / IP4 / DATAGRAM)[:-1], "unreadable{truncated_ip}"),
        (bytes(ETHER / IP4.copy() / DATAGRAM).replace(b"\x45", b"\x44", 1), "unreadable{bad_ip_header}"),
        (bytes(ETHER / IP(len=19) / DATAGRAM), "unreadable{bad_ip_header}"),
        (bytes(ETHER / IPv6(version=5) / DATAGRAM), "unreadable{bad_ip_header}"),
        (bytes(ETHER / IPv6(nh=0) / Raw(b"\x11")), "unreadable{bad_extension_header}"),
        (bytes(ETHER / IPv6(nh=60) / Raw(b"\x11\xff" + bytes(30))), "unreadable{bad_extension_header}"),
        (bytes(ETHER / IPv6(nh=44) / Raw(b"\x11\0\0\0")), "unreadable{bad_extension_header}"),
        (
            bytes(ETHER / IPv6(plen=0) / IPv6ExtHdrHopByHop(options=[Jumbo(jumboplen=70000)])),
            "unreadable{jumbogram}",
        ),
        (bytes(ETHER / IP6 / UDP(len=0) / Raw(b"x")), "unreadable{jumbogram}"),
        (bytes(ETHER / IP6 / UDP(len=7) / Raw(b"x")), "unreadable{bad_udp_length}"),
        (bytes(ETHER / IP6 / UDP(len=10) / Raw(b"x")), "unreadable{truncated_udp}"),
        (bytes(ETHER / IPv6(nh=17) / Raw(b"1234567")), "unreadable{truncated_udp}"),
        (
            bytes(ETHER / IP4.__class__(frag=1, proto=17, flags="MF") / Raw(b"123")),
            "unreadable{bad_fragment}",
        ),
    ],
)
def test_frame_without_a_datagram_says_why(data: bytes, end: str) -> None:
    """Each layer's fault has a name of its own in the ledger."""
    pdus, ledger = run([frame(data)], NONE)
    assert not pdus
    assert ledger.as_dict()["frames"] == {"entered": 1, end: 1}


def test_snap_length_is_not_damage_of_the_sender() -> None:
    """A packet that the capture cut short is told from one that was short on the wire."""
    data = bytes(ETHER / IP4 / DATAGRAM)
    _, ledger = run([frame(data[:-1], wire_length=len(data))], NONE)
    assert ledger.as_dict()["frames"] == {"entered": 1, "unreadable{snap_length}": 1}


def test_udp_length_bounds_the_datagram() -> None:
    """Bytes of the packet behind the datagram are no payload, with and without the shortcut."""
    data = bytes(ETHER / IP6 / UDP(sport=1, dport=2, len=10) / Raw(b"payload"))
    pdus, _ = run([frame(data)] * 2, NONE)
    assert [pdu.payload for pdu in pdus] == [b"pa", b"pa"]
    pdus, ledger = run([frame(data), frame(data[:-1])], NONE)
    assert (len(pdus), ledger.ended("frames", "unreadable")) == (1, 1)


@pytest.mark.parametrize(
    ("linktype", "data", "vlan"),
    [
        (101, bytes(IP4 / DATAGRAM), None),
        (101, bytes(IP6 / DATAGRAM), None),
        (228, bytes(IP4 / DATAGRAM), None),
        (229, bytes(IP6 / IPv6ExtHdrDestOpt() / DATAGRAM), None),
        (113, bytes(CookedLinux() / IP4 / DATAGRAM), None),
        (113, bytes(CookedLinux(proto=0x8100) / Dot1Q(vlan=9) / IP6 / DATAGRAM), 9),
        (276, bytes(CookedLinuxV2() / IP6 / DATAGRAM), None),
    ],
)
def test_other_link_layers(linktype: int, data: bytes, vlan: int | None) -> None:
    """Linux cooked captures and raw IP are read like Ethernet."""
    pdus, _ = run([frame(data, linktype=linktype)], NONE)
    assert [(pdu.payload, pdu.flow.vlan) for pdu in pdus] == [(b"payload", vlan)]


def test_unknown_link_layer_is_named() -> None:
    """The ledger tells which linktype nobody can read."""
    _, ledger = run([frame(b"x" * 80, linktype=147)])
    assert ledger.as_dict()["frames"] == {"entered": 1, "unreadable{linktype_147}": 1}


def test_sources_do_not_share_flows() -> None:
    """The same bytes on two interfaces are two flows, in any order."""
    data = udp_frame(soad((1, b"x")))
    frames = [Frame(n, 0, source, 1, data, len(data)) for n, source in enumerate("abab")]
    pdus, _ = run(frames, SOAD)
    assert [pdu.flow.source for pdu in pdus] == list("abab")
