"""pcapng: sections, interfaces, clocks and packet blocks of every kind, sound and damaged."""

from fractions import Fraction
from struct import pack
from typing import NamedTuple
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.capture import window
from ecustream.capture.accounts import MAX_LOSSES
from ecustream.errors import InputError
from ecustream.traffic import Frame
from tests.capture.capture_files import (
    block,
    enhanced,
    interface,
    obsolete,
    option,
    pcap_header,
    read_bytes,
    section,
    simple,
)

NOISE = {
    0x7777: 0,  # unknown
    4: 0,  # name resolution
    5: 0,  # statistics
    10: 0,  # decryption secrets
    9: 1,  # journal export, a numbered record in Wireshark
    0xBAD: 1,  # custom, likewise
    0x40000BAD: 1,
}
"""Blocks without packets, and by how much they move Wireshark's frame number on."""

RESOLUTIONS = {
    None: 10**6,
    0: 1,
    3: 10**3,
    6: 10**6,
    9: 10**9,
    12: 10**12,
    0x80: 1,
    0x8A: 2**10,
    0xA0: 2**32,
    0xC0: 2**64,
}
"""Ticks in a second by `if_tsresol`."""


class Trace(NamedTuple):
    """A pcapng file, its frames, how many packets have a time that cannot be kept, and what was lost."""

    content: bytes
    frames: list[Frame]
    bad_times: int
    losses: list[tuple[int, int]]


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Sections of either byte order, interfaces with clocks of their own, all packet blocks, and noise."""
    content, number, time_ns, bad_times = b"", 0, 0, 0
    frames: list[Frame] = []
    losses: list[tuple[int, int]] = []
    for _ in range(draw(st.integers(1, 3))):
        order = draw(st.sampled_from("<>"))
        content += section(order, draw(st.sampled_from([(1, 0), (1, 2)])))
        interfaces: list[tuple[str, int, int, int]] = []
        for _ in range(draw(st.integers(0, 10))):
            data = draw(st.binary(max_size=50))
            what = draw(st.sampled_from(["interface", "enhanced", "obsolete", "simple", "noise"]))
            if what == "noise":
                kind = draw(st.sampled_from(list(NOISE)))
                content += block(kind, data, order)
                number += NOISE[kind]
            elif what == "interface" or not interfaces:
                name = draw(
                    st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9)
                )
                resolution = draw(st.sampled_from(list(RESOLUTIONS)))
                offset = draw(st.none() | st.integers(-(10**9), 10**9))
                linktype = draw(st.integers(0, 0xFFFF))
                content += interface(name, resolution, offset, order, linktype)
                name = name or f"if{len(interfaces)}"
                interfaces.append((name, RESOLUTIONS[resolution], offset or 0, linktype))
            else:
                number += 1
                index = 0 if what == "simple" else draw(st.integers(0, len(interfaces) - 1))
                name, per_second, offset, linktype = interfaces[index]
                # Mostly times of our days, sometimes anything.
                seconds = draw(st.integers(0, 2 * 10**9))
                ticks = draw(
                    st.just(min(seconds * per_second + seconds % per_second, 2**64 - 1))
                    | st.integers(0, 2**64 - 1)
                )
                wire_length, lost = len(data), 0
                if what == "simple":
                    content += simple(data, order=order)
                elif what == "obsolete":
                    content += obsolete(data, ticks, index, order)
                else:
                    wire_length += draw(st.integers(0, 2000))
                    comment, end = option(1, b"a comment", order), option(0, b"", order)
                    lost = draw(st.integers(0, 5))
                    drops = option(4, pack(order + "Q", lost), order)
                    tails = [drops, drops + end, comment + drops + end, drops + comment + end]
                    tail = draw(st.sampled_from(tails if lost else [b"", comment + end, *tails]))
                    content += enhanced(data, ticks, index, wire_length, order, tail)
                if what != "simple":
                    packet_ns = int(Fraction(ticks * 10**9, per_second) // 1) + offset * 10**9
                    if not 0 <= packet_ns < 2**63:
                        bad_times += 1
                        continue
                    time_ns = packet_ns
                losses += [(number, lost)] if lost else []
                frames.append(Frame(number, time_ns, name, linktype, data, wire_length))
    return Trace(content, frames, bad_times, losses)


@settings(max_examples=150, deadline=None)
@given(trace=traces(), piece=st.integers(1, 300))
def test_any_trace_reads_back_as_written(trace: Trace, piece: int) -> None:
    """All frames are read, and all counts of lost ones, wherever the pieces end in which the file is read."""
    content, frames, bad_times, losses = trace
    with patch.object(window, "PIECE", piece), patch.object(window, "COMPRESSED_PIECE", piece):
        outcome = read_bytes(content)
    assert outcome.frames == frames
    assert outcome.unreadable == ({"bad_time": bad_times} if bad_times else {})
    assert outcome.losses == losses
    assert outcome.ledger.ended("frames", "kernel_dropped") == sum(count for _, count in losses)


def small_trace() -> tuple[bytes, list[int]]:
    """A trace of two sections, and where each of its blocks ends."""
    blocks = [
        section(),
        interface("ETH1"),
        enhanced(b"first", 1),
        block(5, b"statistics"),
        interface(tsresol=0x8A),
        enhanced(b"second", 2, index=1),
        section(">"),
        interface("ETH9", order=">", snap_length=3),
        obsolete(b"third", 3, order=">"),
        simple(b"fou", wire_length=6, order=">"),
    ]
    ends = [sum(map(len, blocks[: n + 1])) for n in range(len(blocks))]
    return b"".join(blocks), ends


def test_a_cut_at_any_byte_keeps_the_frames_before_it() -> None:
    """A file cut in its header is refused; cut later, it gives what is whole and tells about the rest."""
    content, ends = small_trace()
    frames = read_bytes(content).frames
    assert [frame.data for frame in frames] == [b"first", b"second", b"third", b"fou"]
    packet_ends = [ends[2], ends[5], ends[8], ends[9]]
    for cut in range(len(content)):
        if cut < ends[0]:
            with pytest.raises(InputError, match="byte"):
                read_bytes(content[:cut])
            continue
        outcome = read_bytes(content[:cut])
        assert outcome.frames == frames[: sum(end <= cut for end in packet_ends)]
        assert outcome.unreadable == ({} if cut in ends else {"truncated_file": 1})
        if outcome.damage:
            assert f"byte {max(end for end in ends if end <= cut)}: " in outcome.damage[0]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_flipped_bytes_never_raise(data: st.DataObject) -> None:
    """Whatever bytes are wrong, the reader counts or refuses; the books balance."""
    content = bytearray(small_trace()[0])
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        outcome = read_bytes(bytes(content))
    except InputError:
        return
    assert sum(len(frame.data) for frame in outcome.frames) <= len(content)


def test_interfaces_keep_their_names_and_others_are_numbered() -> None:
    """Two named interfaces and one without a name, in turn."""
    content = section() + interface("ETH1") + interface() + interface("ETH2")
    content += b"".join(enhanced(b"x", index=index) for index in (2, 0, 1, 2))
    assert [frame.source for frame in read_bytes(content).frames] == ["ETH2", "ETH1", "if1", "ETH2"]


def test_a_given_name_replaces_all_others() -> None:
    """The override holds for interfaces with and without names."""
    content = section() + interface("ETH1") + interface() + enhanced(b"x") + enhanced(b"y", index=1)
    assert [frame.source for frame in read_bytes(content, source="bench").frames] == ["bench", "bench"]


def test_a_simple_packet_is_cut_at_the_snap_length_and_takes_the_time_before_it() -> None:
    """It carries no time of its own; a jump to 1970 would look like a fault of the vehicle."""
    content = section() + interface(snap_length=4) + enhanced(b"abc", 77) + simple(b"defg", wire_length=100)
    outcome = read_bytes(content)
    assert outcome.frames[1] == Frame(2, 77, "if0", 1, b"defg", 100)
    assert outcome.ledger.notes["packets_without_time"] == 1
    assert outcome.damage == []


def resized(content: bytes, length: int) -> bytes:
    """A block with its first length overwritten."""
    return content[:4] + pack("<I", length) + content[8:]


GOOD = enhanced(b"good", 5)
HEAD = section() + interface("ETH1")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (resized(GOOD, 2**32 - 4), "bad_length"),
        (resized(GOOD, 2**24 + 4), "bad_length"),
        (resized(GOOD, 0), "bad_length"),
        (resized(GOOD, 8), "bad_length"),
        (resized(GOOD, 33), "bad_length"),
        (resized(block(0x7777, b""), 2**31), "bad_length"),
        (GOOD[:-4] + pack("<I", 40), "bad_length"),
        (block(0x7777, b"")[:-4] + pack("<I", 16), "bad_length"),
        (resized(section(), 24), "bad_length"),
        (block(0x0A0D0D0A, b"XXXX" + bytes(12)), "bad_section"),
        (section(version=(2, 0)), "bad_section"),
    ],
)
def test_broken_framing_ends_the_reading_with_what_came_before(bad: bytes, reason: str) -> None:
    """Nothing after it can be found, so it is counted once and the sentence says where."""
    outcome = read_bytes(HEAD + GOOD + bad + GOOD)
    assert [frame.data for frame in outcome.frames] == [b"good"]
    assert outcome.unreadable == {reason: 1}
    assert "the rest is not read" in outcome.damage[0]
    start = len(HEAD + GOOD)
    assert any(f"byte {start + within}: " in outcome.damage[0] for within in (0, 8, 12))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (enhanced(b"x", index=1), "unknown_interface"),
        (obsolete(b"x", index=7), "unknown_interface"),
        (block(6, pack("<5I", 0, 0, 0, 100, 100) + b"abcd"), "bad_length"),
        (block(6, pack("<5I", 0, 0, 0, 2**32 - 1, 100) + b"abcd"), "bad_length"),
        (block(6, b""), "bad_length"),
        (block(2, bytes(16)), "bad_length"),
        (block(3, b""), "bad_length"),
        (block(3, pack("<I", 5) + b"abcd"), "bad_length"),
        (enhanced(b"x", 2**64 - 1), "bad_time"),
    ],
)
def test_a_bad_packet_in_sound_framing_costs_only_itself(bad: bytes, reason: str) -> None:
    """It is counted, keeps its number, and reading goes on behind it."""
    outcome = read_bytes(HEAD + GOOD + bad + GOOD)
    assert [(frame.number, frame.data) for frame in outcome.frames] == [(1, b"good"), (3, b"good")]
    assert outcome.unreadable == {reason: 1}
    assert f"byte {len(HEAD + GOOD)}: packet 2 " in outcome.damage[0]


def test_interfaces_of_one_section_are_unknown_in_the_next() -> None:
    """A section header ends the validity of everything described before."""
    outcome = read_bytes(HEAD + GOOD + section() + GOOD)
    assert len(outcome.frames) == 1
    assert outcome.unreadable == {"unknown_interface": 1}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (pack("<HH", 2, 100) + b"ETH1", "option 2"),
        (option(9, b"\x09\x09"), "time option 9"),
        (option(14, b"\0\0\0\0"), "time option 14"),
    ],
)
def test_bad_options_of_an_interface_are_told_and_its_packets_kept(options: bytes, told: str) -> None:
    """The interface counts with what could be read of it; its clock is then the format's default."""
    content = section() + block(1, pack("<HHI", 1, 0, 0) + options) + enhanced(b"x", 1)
    outcome = read_bytes(content)
    assert outcome.frames == [Frame(1, 1000, "if0", 1, b"x", 1)]
    assert told in outcome.damage[0]


def test_an_interface_that_cannot_be_read_keeps_its_place() -> None:
    """The next interface is still number 1; packets of the unreadable one are counted."""
    content = section() + block(1, b"") + interface("ETH1") + enhanced(b"x") + enhanced(b"y", index=1)
    outcome = read_bytes(content)
    assert [(frame.source, frame.data) for frame in outcome.frames] == [("ETH1", b"y")]
    assert outcome.unreadable == {"unknown_interface": 1}


@pytest.mark.parametrize("version", [(0, 0), (1, 1), (2, 0)])
def test_an_unknown_version_is_refused(version: tuple[int, int]) -> None:
    """The sentence names the version."""
    with pytest.raises(InputError, match=rf"byte 12: pcapng version {version[0]}\.{version[1]} is not known"):
        read_bytes(section(version=version))


def test_an_unknown_byte_order_is_refused() -> None:
    """The sentence shows what stands where the byte-order magic should be."""
    with pytest.raises(InputError, match="byte 8: 58 58 58 58 is not the byte-order magic"):
        read_bytes(block(0x0A0D0D0A, b"XXXX" + bytes(12)))


def test_a_pcap_glued_behind_a_pcapng_is_damage() -> None:
    """Files joined with the wrong tool: the first is read, the second is told."""
    outcome = read_bytes(HEAD + GOOD + pcap_header())
    assert len(outcome.frames) == 1
    assert len(outcome.damage) == 1


@pytest.mark.parametrize(
    "options",
    [
        option(4, pack("<I", 3)),
        option(4, pack("<Q", 3))[:-4],
        option(0, b"") + option(4, pack("<Q", 3)),
        option(2, pack("<I", 4)),
        pack("<HH", 1, 0xFFFF),
        b"\4\0",
    ],
    ids=["short", "cut", "after-the-end", "flags", "beyond-the-block", "half"],
)
@pytest.mark.parametrize("piece", [window.PIECE, 1])
def test_options_that_tell_of_no_loss(options: bytes, piece: int) -> None:
    """Other options, and drop counts that are no such, cost nothing and invent nothing."""
    with patch.object(window, "PIECE", piece):
        outcome = read_bytes(section() + interface() + enhanced(b"data1", tail=options) + enhanced(b"next"))
    assert [frame.data for frame in outcome.frames] == [b"data1", b"next"]
    assert outcome.losses == []
    assert outcome.damage == []


def test_an_incredible_loss_is_told_and_not_counted() -> None:
    """A damaged drop count does not spoil the books."""
    counts = [2**32, 2**32 - 1, 2**64 - 1]
    packets = [enhanced(b"data", tail=option(4, pack("<Q", count))) for count in counts]
    outcome = read_bytes(section() + interface() + b"".join(packets))
    assert outcome.losses == [(2, 2**32 - 1)]
    assert [sentence.split(": ")[-1] for sentence in outcome.damage] == [
        f"packet {number} claims that {count} were lost before it"
        for number, count in ((1, 2**32), (3, 2**64 - 1))
    ]


def test_losses_do_not_fill_the_memory() -> None:
    """Of a trace that loses something before every frame, the last places are kept, and all is counted."""
    packets = MAX_LOSSES + 3
    outcome = read_bytes(section() + interface() + packets * enhanced(b"", tail=option(4, pack("<Q", 2))))
    assert outcome.losses == [(number, 2) for number in range(4, packets + 1)]
    assert outcome.ledger.ended("frames", "kernel_dropped") == 2 * packets
