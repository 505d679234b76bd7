"""pcap: every variant reads back as written, and damage loses nothing that was good."""

from struct import pack
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.capture import window
from ecustream.errors import InputError
from ecustream.traffic import Frame
from tests.capture.capture_files import pcap_header, pcap_record, read_bytes

FRAMES = [
    Frame(n + 1, 1_700_000_000_123_456_789 + n, "eth", 1, bytes([n]) * (60 + n), 60 + n) for n in range(4)
]


@st.composite
def frames(draw: st.DrawFn, unit_ns: int, linktype: int) -> list[Frame]:
    """Frames with times that the format can hold."""
    found = []
    for number in range(1, draw(st.integers(0, 12)) + 1):
        time_ns = (
            draw(st.integers(0, 2**32 - 1)) * 10**9 + draw(st.integers(0, 10**9 // unit_ns - 1)) * unit_ns
        )
        data = draw(st.binary(max_size=80))
        wire_length = len(data) + draw(st.integers(0, 2000))
        found.append(Frame(number, time_ns, "eth", linktype, data, wire_length))
    return found


@settings(max_examples=80, deadline=None)
@given(
    data=st.data(),
    order=st.sampled_from("<>"),
    unit_ns=st.sampled_from([1, 1000]),
    linktype=st.integers(0, 0xFFFF),
    fcs_bits=st.sampled_from([0, 0x2400_0000, 0xF400_0000]),
    piece=st.integers(1, 200),
)
def test_any_frames_read_back_as_written(
    data: st.DataObject, order: str, unit_ns: int, linktype: int, fcs_bits: int, piece: int
) -> None:
    """Either byte order, micro- or nanoseconds, any split into reads: what was written comes out."""
    written = data.draw(frames(unit_ns, linktype))
    content = pcap_header(order, unit_ns, linktype | fcs_bits)
    content += b"".join(pcap_record(frame, order, unit_ns) for frame in written)
    with patch.object(window, "PIECE", piece), patch.object(window, "COMPRESSED_PIECE", piece):
        outcome = read_bytes(content)
    assert outcome.frames == written
    assert outcome.damage == []


@pytest.mark.parametrize("unit_ns", [1, 1000])
def test_a_cut_at_any_byte_keeps_the_frames_before_it(unit_ns: int) -> None:
    """A file cut in its header is refused; cut later, it gives what is whole and tells about the rest."""
    content = pcap_header(unit_ns=unit_ns)
    whole_at = [len(content)]
    for frame in FRAMES:
        content += pcap_record(frame, unit_ns=unit_ns)
        whole_at.append(len(content))
    expected = read_bytes(content).frames
    assert len(expected) == len(FRAMES)
    for cut in range(len(content)):
        if cut < whole_at[0]:
            with pytest.raises(InputError, match="byte"):
                read_bytes(content[:cut])
            continue
        outcome = read_bytes(content[:cut])
        good = sum(end <= cut for end in whole_at[1:])
        assert outcome.frames == expected[:good]
        assert outcome.unreadable == ({} if cut in whole_at else {"truncated_file": 1})
        assert len(outcome.damage) == (cut not in whole_at)
        if outcome.damage:
            assert f"byte {whole_at[good]}: " in outcome.damage[0]


@pytest.mark.parametrize("length", [2**18 + 1, 2**31, 2**32 - 1])
def test_an_absurd_length_ends_the_reading_with_what_came_before(length: int) -> None:
    """A packet of 4 GiB is a damaged length: it is counted, and the frames before it are kept."""
    content = pcap_header() + pcap_record(FRAMES[0])
    outcome = read_bytes(content + pack("<4I", 0, 0, length, length) + bytes(1000))
    assert outcome.frames == FRAMES[:1]
    assert outcome.unreadable == {"bad_length": 1}
    assert f"byte {len(content)}: packet 2 claims {length} bytes" in outcome.damage[0]


@pytest.mark.parametrize(("unit_ns", "fraction"), [(1, 10**9), (1000, 10**6), (1, 2**32 - 1)])
def test_a_fraction_of_more_than_a_second_costs_only_its_packet(unit_ns: int, fraction: int) -> None:
    """The packet is counted as unreadable and keeps its number; its neighbours are read."""
    bad = pack("<4I", 5, fraction, 3, 3) + b"abc"
    good = [pcap_record(frame, unit_ns=unit_ns) for frame in FRAMES[:2]]
    outcome = read_bytes(pcap_header(unit_ns=unit_ns) + good[0] + bad + good[1])
    assert [frame.number for frame in outcome.frames] == [1, 3]
    assert outcome.unreadable == {"bad_time": 1}


def test_a_bad_packet_in_a_million_does_not_fill_the_memory() -> None:
    """Every bad packet is counted, but only the first hundred get a sentence."""
    outcome = read_bytes(pcap_header() + pack("<4I", 5, 10**9, 0, 0) * 1000)
    assert outcome.unreadable == {"bad_time": 1000}
    assert len(outcome.damage) == 101


@pytest.mark.parametrize("version", [(2, 3), (2, 5), (1, 4), (543, 0)])
def test_an_unknown_version_is_refused(version: tuple[int, int]) -> None:
    """The sentence names the version."""
    with pytest.raises(InputError, match=rf"byte 4: pcap version {version[0]}\.{version[1]} is not known"):
        read_bytes(pcap_header(version=version))


def test_a_name_for_the_interface_can_be_given() -> None:
    """The format has no names, so the caller may say which bus it was."""
    content = pcap_header() + pcap_record(FRAMES[0])
    assert read_bytes(content, source="ETH7").frames[0].source == "ETH7"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_flipped_bytes_never_raise(data: st.DataObject) -> None:
    """Whatever bytes are wrong after the magic, the reader counts or refuses; the books balance."""
    content = bytearray(pcap_header() + b"".join(map(pcap_record, FRAMES)))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        outcome = read_bytes(bytes(content))
    except InputError:
        return
    assert sum(len(frame.data) for frame in outcome.frames) <= len(content)
