"""ASAM CMP: whole frames, frames in segments, and what is none."""

import random
from itertools import pairwise
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecustream.capture.carriers import Entry
from ecustream.capture.cmp import MAX_OPEN, CmpParser
from tests.capture.logger_frames import START_NS, Recorded, cmp, cmp_message, cmp_part, udp_frame

FIRST, MIDDLE, LAST = 0x04, 0x08, 0x0C
FRAME = udp_frame(b"abcdefgh")
ENTRY = Recorded(0x1001, START_NS, FRAME)
PAYLOAD = cmp_message(ENTRY)[16:]


def entries(parser: CmpParser, data: bytes, wire_length: int | None = None) -> list[Entry]:
    """What a frame gives."""
    return list(parser.parse(data, 14, wire_length or len(data)).entries)


def reasons(found: list[Entry]) -> list[str]:
    """How entries end; empty for those that are handed on."""
    return ["" if entry.end is None else entry.end.reason for entry in found]


def test_byte_by_byte() -> None:
    """A frame written down by hand: version, device, type, stream, counter; time, interface, payload."""
    data = bytes.fromhex(
        "0300000000ff 70b3d5200001 99fe"
        "01 00 0021 01 05 fffe"
        "17979cfe362a0000 00001001 02 08 0014"
        "0080 0000 000e ffffffffffff 020000000001 0806"
    )
    carrier = CmpParser().parse(data, 14, len(data))
    assert carrier.end == ("filtered", "logger_carrier")
    assert (carrier.device, carrier.counter) == (0x21, 0xFFFE)
    assert carrier.series == ((0x21, 5), (0x21, 5, 1))
    inner = bytes.fromhex("ffffffffffff 020000000001 0806")
    assert carrier.entries == [Entry(0x1001, 1_700_000_000_000_000_000, inner, 14, None)]


def test_several_messages_of_several_kinds() -> None:
    """Each is an entry; those of other buses end."""
    messages = [cmp_message(ENTRY), cmp_message(Recorded(7, 1, b"1234"), kind=2), cmp_message(ENTRY)]
    found = entries(CmpParser(), cmp(messages) + bytes(40))
    assert reasons(found) == ["", "logger_can", ""]
    assert [entry.data for entry in found] == [FRAME, b"", FRAME]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (1, "logger_can"),
        (2, "logger_can"),
        (3, "logger_lin"),
        (4, "logger_flexray"),
        (5, "logger_other_data"),
        (0, "logger_other_data"),
    ],
)
def test_other_buses(kind: int, reason: str) -> None:
    """By their payload types."""
    assert reasons(entries(CmpParser(), cmp([cmp_message(ENTRY, kind=kind)]))) == [reason]


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (cmp([], message=2), "filtered logger_control"),
        (cmp([], message=3), "filtered logger_status"),
        (cmp([], message=4), "filtered logger_replay"),
        (cmp([], message=0xFF), "filtered logger_other_message"),
        (cmp([], version=2), "unreadable logger_version"),
        (cmp([])[:21], "unreadable logger_header"),
    ],
)
def test_how_a_carrier_ends(data: bytes, end: str) -> None:
    """By what it is."""
    carrier = CmpParser().parse(data, 14, len(data))
    assert " ".join(carrier.end) == end
    assert not carrier.entries


def test_errors_and_cuts() -> None:
    """Wrong check sequence, a cut by the logger, by a snap length or by damage, a time after 2262."""
    for flag in (0x0001, 0x0008, 0x0020):
        damaged = cmp([cmp_message(ENTRY, ethernet_flags=flag)])
        assert reasons(entries(CmpParser(), damaged)) == ["logger_crc_error"]
    assert reasons(entries(CmpParser(), cmp([cmp_message(ENTRY, ethernet_flags=0xFF96)]))) == [""]
    assert reasons(entries(CmpParser(), cmp([cmp_message(ENTRY, flags=0x40)]))) == ["logger_crc_error"]
    (cut,) = entries(CmpParser(), cmp([cmp_message(ENTRY, ethernet_flags=0x40)]))
    assert cut.wire_length > len(cut.data) == len(FRAME)
    whole = cmp([cmp_message(ENTRY)])
    assert reasons(entries(CmpParser(), whole[:-1])) == ["logger_truncated"]
    assert reasons(entries(CmpParser(), whole[:-1], len(whole))) == ["snap_length"]
    short = cmp([cmp_part(ENTRY, PAYLOAD[:-1])])
    assert reasons(entries(CmpParser(), short)) == ["logger_truncated"]
    late = cmp([cmp_message(ENTRY._replace(time_ns=1 << 63))])
    assert reasons(entries(CmpParser(), late)) == ["logger_time"]
    overflow = cmp([cmp_message(ENTRY, flags=0x20), cmp_message(ENTRY)])
    assert CmpParser().parse(overflow, 14, len(overflow)).overflows == 1


@given(
    st.lists(st.integers(1, len(PAYLOAD) - 1), min_size=1, max_size=4, unique=True), st.integers(0, 0xFFFF)
)
def test_segments_make_the_frame(cuts: list[int], counter: int) -> None:
    """However it was split, and with other streams between; it has the first one's time."""
    parser = CmpParser()
    borders = [0, *sorted(cuts), len(PAYLOAD)]
    parts = [PAYLOAD[a:b] for a, b in pairwise(borders)]
    found: list[Entry] = []
    for place, part in enumerate(parts):
        flag = FIRST if place == 0 else LAST if place == len(parts) - 1 else MIDDLE
        entry = ENTRY._replace(time_ns=START_NS + place)
        assert not found
        found = entries(parser, cmp([cmp_part(entry, part, flags=flag)], counter + place))
        assert entries(parser, cmp([cmp_message(ENTRY)], stream=6)) == [
            Entry(0x1001, START_NS, FRAME, len(FRAME), None)
        ]
    assert found == [Entry(0x1001, START_NS, FRAME, len(FRAME), None)]
    assert parser.flush() == []


def test_segments_that_are_missing() -> None:
    """What came of the frame ends once, and the next frame is whole."""
    first = cmp_part(ENTRY, PAYLOAD[:9], flags=FIRST)
    last = cmp_part(ENTRY, PAYLOAD[9:], flags=LAST)
    parser = CmpParser()
    assert entries(parser, cmp([first], 1)) == []
    assert reasons(entries(parser, cmp([last], 3))) == ["logger_segment", "logger_segment"]
    assert reasons(entries(parser, cmp([last], 4))) == ["logger_segment"]
    assert entries(parser, cmp([first], 5)) == []
    assert reasons(entries(parser, cmp([first], 6))) == ["logger_segment"]
    assert reasons(entries(parser, cmp([cmp_message(ENTRY)], 7))) == ["logger_segment", ""]
    assert entries(parser, cmp([first], 8)) == []
    assert reasons(parser.flush()) == ["logger_segment"]
    other = cmp_part(ENTRY._replace(interface=2), PAYLOAD[9:], flags=LAST)
    assert entries(parser, cmp([first], 9)) == []
    assert reasons(entries(parser, cmp([other], 10))) == ["logger_segment", "logger_segment"]


def test_open_frames_are_bounded() -> None:
    """Damage that opens a frame in every stream does not fill the memory, and each of them ends."""
    parser = CmpParser()
    first = cmp_part(ENTRY, PAYLOAD[:9], flags=FIRST)
    ended = 0
    for device in range(3 * MAX_OPEN):
        ended += len(entries(parser, cmp([first], device=device)))
    assert ended + len(parser.flush()) == 3 * MAX_OPEN
    assert ended >= MAX_OPEN


def test_segments_that_never_end() -> None:
    """No more is kept than a frame can have; the longest one is whole."""
    longest = bytes(range(256)) * 256
    longest = longest[:0xFFFF]
    payload = pack(">HHH", 0, 0, len(longest)) + longest
    parser = CmpParser()
    assert entries(parser, cmp([cmp_part(ENTRY, payload[:60_000], flags=FIRST)], 0)) == []
    (frame,) = entries(parser, cmp([cmp_part(ENTRY, payload[60_000:], flags=LAST)], 1))
    assert frame == Entry(0x1001, START_NS, longest, len(longest), None)
    assert entries(parser, cmp([cmp_part(ENTRY, payload[:60_000], flags=FIRST)], 2)) == []
    for counter in range(3, 13):
        assert entries(parser, cmp([cmp_part(ENTRY, payload[:60_000], flags=MIDDLE)], counter)) == []
    (opened,) = parser._open.values()
    assert len(opened.payload) == len(payload)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_any_bytes(data: bytes, seed: int) -> None:
    """Nothing raises, and segments that were opened come to an end."""
    parser = CmpParser()
    chance = random.Random(seed)
    for _ in range(3):
        noisy = bytearray(cmp([cmp_part(ENTRY, data, flags=chance.choice((0, FIRST, MIDDLE, LAST)))]) + data)
        noisy[chance.randrange(14, len(noisy))] = chance.randrange(256)
        for entry in entries(parser, bytes(noisy)[: chance.randrange(14, len(noisy) + 1)]):
            assert entry.end is not None or entry.wire_length >= len(entry.data)
    assert all(entry.end is not None for entry in parser.flush())
