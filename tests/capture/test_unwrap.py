"""What loggers recorded, unwrapped: names, order, books, losses and clocks."""

import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.capture.breaks import Break
from ecustream.capture.carriers import candidates, find_payload
from ecustream.capture.reorder import LATE
from ecustream.capture.unwrap import MAX_BUSES, Unwrapper
from ecustream.decode.packets import PacketDecoder
from ecustream.ledger import Ledger
from ecustream.traffic import Frame
from tests.capture.logger_frames import (
    MS,
    PLP,
    START_NS,
    Recorded,
    S,
    captured,
    cmp,
    cmp_message,
    cmp_part,
    pdu_frame,
    tecmp,
)

FRAME = pdu_frame(1)


class Bench:
    """An unwrapper; what goes in is entered as by a reader, what comes out is ended by a decoder."""

    def __init__(self, buses: dict[str, str] | None = None) -> None:
        self.ledger = Ledger()
        self.capture_losses: deque[tuple[int, int]] = deque()
        self.unwrapper = Unwrapper(self.ledger, self.capture_losses, buses)
        self.decoder = PacketDecoder(self.ledger)
        self.frames: list[Frame] = []
        self.breaks: list[Break] = []

    def put(self, frames: list[Frame]) -> None:
        """The next frames of the capture."""
        self.ledger.enter("frames", len(frames))
        self.take(self.unwrapper.unwrap(frames))

    def take(self, pieces: list[list[Frame] | Break]) -> None:
        """What comes of them."""
        for piece in pieces:
            if isinstance(piece, Break):
                self.breaks.append(piece)
            else:
                self.frames += piece
                self.decoder.decode(piece)

    def end(self) -> None:
        """The input is at its end."""
        self.take([self.unwrapper.flush()])
        self.decoder.flush()
        assert self.ledger.balanced(["frames"]), self.ledger.sentences()

    @property
    def losses(self) -> list[tuple[int, int]]:
        """Of the capture and the loggers."""
        return list(self.unwrapper.losses)


def one(time_ns: int, interface: int = 0x1001, data: bytes = FRAME, flags: int = 0) -> list[Recorded]:
    """An entry."""
    return [Recorded(interface, time_ns, data, flags)]


def test_traffic_without_loggers_is_passed_on() -> None:
    """The very list, and the capture's losses when their frames have come."""
    bench = Bench()
    frames = captured([FRAME] * 5)
    bench.capture_losses += [(3, 7), (9, 1)]
    pieces = bench.unwrapper.unwrap(frames)
    assert pieces == [frames]
    assert pieces[0] is frames
    assert not bench.unwrapper.active
    assert bench.losses == [(3, 7)]
    assert bench.unwrapper.unwrap([]) == [[]]


@given(st.binary(max_size=40), st.sampled_from([1, 113]))
def test_no_logger_is_overlooked(data: bytes, linktype: int) -> None:
    """What is asked of all frames says yes to every frame of a logger."""
    frame = Frame(1, 0, "eth1", linktype, data, len(data))
    others = captured([FRAME, FRAME])
    if find_payload(frame) is not None:
        assert candidates([*others, frame, *others])


def test_only_ethernet_is_looked_at() -> None:
    """The same bytes behind another link layer are no logger's frame."""
    carrier = tecmp(one(START_NS))
    assert find_payload(Frame(1, 0, "any", 1, carrier, len(carrier))) == (0x99FE, 14)
    assert find_payload(Frame(1, 0, "any", 113, carrier, len(carrier))) is None


@pytest.mark.parametrize("tags", [(), (0x8100,), (0x88A8, 0x8100), (0x9100, 0x8100)])
@pytest.mark.parametrize("ethertype", [0x99FE, PLP])
def test_found_behind_tags(tags: tuple[int, ...], ethertype: int) -> None:
    """Up to two, among other frames."""
    bench = Bench()
    carrier = tecmp(one(START_NS - 1), ethertype=ethertype, tags=tags)
    bench.put(captured([FRAME, carrier, FRAME]))
    bench.end()
    assert [frame.number for frame in bench.frames] == [2, 1, 3]
    assert bench.ledger.ends["frames"] == {"decoded": 3, "filtered{logger_carrier}": 1}


@pytest.mark.parametrize("protocol", ["tecmp", "cmp"])
def test_a_carrier_that_is_cut_is_told(protocol: str) -> None:
    """Wherever a snap length cuts it, something ends as that, though no recording is left to tell of it."""
    recorded = [Recorded(1, START_NS, FRAME), Recorded(1, START_NS, FRAME)]
    whole = tecmp(recorded) if protocol == "tecmp" else cmp([cmp_message(entry) for entry in recorded])
    for length in range(14, len(whole)):
        bench = Bench()
        bench.put([Frame(1, START_NS, "eth1", 1, whole[:length], len(whole))])
        bench.end()
        assert bench.ledger.ends["frames"]["unreadable{snap_length}"] == 1


def test_names_of_buses() -> None:
    """From the configuration, in either notation, or by capture and interface."""
    bench = Bench({"0x1001": "ETH1", "18": "ETH2"})
    recorded = [Recorded(interface, START_NS, FRAME) for interface in (0x1001, 18, 0x1003)]
    bench.put(captured([tecmp(recorded)]))
    bench.end()
    assert [frame.source for frame in bench.frames] == ["ETH1", "ETH2", "eth1/0x1003"]
    assert all((f.data, f.linktype, f.wire_length) == (FRAME, 1, len(FRAME)) for f in bench.frames)


def test_names_are_bounded() -> None:
    """Damage that invents interfaces does not fill the memory."""
    bench = Bench()
    for first in range(0, 3 * MAX_BUSES, 64):
        recorded = [Recorded(interface, START_NS, b"") for interface in range(first + 1, first + 65)]
        bench.put(captured([tecmp(recorded, counter=first // 64)]))
    assert len(bench.unwrapper._names) <= MAX_BUSES
    bench.end()
    assert len({frame.source for frame in bench.frames}) == 3 * MAX_BUSES


def test_batches_of_links_in_the_order_of_their_times() -> None:
    """Each link's batch reaches back over those before; ordinary frames fall into place."""
    bench = Bench()
    chance = random.Random(3)
    carriers, times_ns = [], []
    for i in range(60):
        link, end_ns = i % 3, START_NS + i * 10 * MS
        batch = sorted(end_ns - chance.randrange(30 * MS) for _ in range(4))
        times_ns += batch
        carriers.append(tecmp([Recorded(link + 1, time_ns, FRAME) for time_ns in batch], i))
    frames = captured(carriers, step_ns=10 * MS)
    ordinary = captured([FRAME] * 60, START_NS + MS // 2, 10 * MS)
    times_ns += [frame.time_ns for frame in ordinary]
    mixed = sorted(frames + ordinary, key=lambda frame: frame.time_ns)
    for i in range(0, len(mixed), 7):
        bench.put(mixed[i : i + 7])
    bench.end()
    assert [frame.time_ns for frame in bench.frames] == sorted(times_ns)
    assert bench.ledger.notes == {}
    assert bench.breaks == []
    assert bench.losses == []


def test_every_kind_has_its_end() -> None:
    """The books balance over whatever a logger sends."""
    bench = Bench()
    entry = Recorded(1, START_NS, FRAME)
    frames = [
        tecmp(one(START_NS)),
        tecmp(one(START_NS, data=bytes(9)), 1, kind=2),
        tecmp([], 2, message=1),
        tecmp(one(START_NS, flags=0x2000), 3),
        tecmp(one(START_NS), version=8),
        tecmp([], 4)[:20],
        tecmp(one(START_NS), 4, flags=2),
        cmp([cmp_message(entry), cmp_message(entry, kind=3)]),
        cmp([cmp_part(entry, b"123", flags=4)], 1),
        cmp([], version=7),
    ]
    bench.put(captured(frames))
    bench.end()
    assert bench.ledger.ends["frames"] == {
        "filtered{logger_carrier}": 5,
        "filtered{logger_status}": 1,
        "unreadable{logger_version}": 2,
        "unreadable{logger_header}": 1,
        "unreadable{logger_segment}": 2,
        "unreadable{logger_crc_error}": 1,
        "filtered{logger_can}": 1,
        "filtered{logger_lin}": 1,
        "decoded": 2,
    }
    assert bench.losses == []


def test_nobody_wants_more() -> None:
    """What still waited has an end."""
    bench = Bench()
    bench.put(captured([tecmp(one(START_NS))]))
    assert bench.frames == []
    bench.unwrapper.abandon()
    bench.unwrapper.abandon()
    assert bench.ledger.ends["frames"] == {"filtered{logger_carrier}": 1, "filtered{logger_abandoned}": 1}


def test_a_logger_that_loses_messages() -> None:
    """By its counter; before the first frame after it; noted."""
    bench = Bench()
    counters = [7, 8, 11, 12, 12, 3, 4, 6]
    bench.put(captured([tecmp(one(START_NS + i * MS), counter) for i, counter in enumerate(counters)]))
    bench.put(captured([cmp([cmp_message(one(START_NS)[0])], counter) for counter in (1, 3)], number=9))
    assert bench.losses == [(3, 2), (8, 1), (10, 1)]
    assert bench.ledger.notes == {"logger_messages_lost": 4, "logger_counter_set_back": 2}


def test_what_the_capture_lost_is_not_told_twice() -> None:
    """Of the messages that are missing, those are the capture's that it says it has dropped."""
    bench = Bench()
    bench.capture_losses += [(2, 5), (4, 3)]
    bench.put(captured([tecmp(one(START_NS), counter) for counter in (0, 6, 9, 14)]))
    assert bench.losses == [(2, 5), (3, 2), (4, 3), (4, 1)]
    assert bench.ledger.notes == {"logger_messages_lost": 3}


def test_overflows() -> None:
    """Of an entry each time; of a device, which goes on saying so, once until it is over."""
    bench = Bench()
    flags = [0xF, 0x800F, 0x800F, 0xF, 0x800F]
    bench.put(captured([tecmp(one(START_NS), i, flags=flag) for i, flag in enumerate(flags)]))
    assert bench.losses == [(2, 1), (5, 1)]
    bench.put(captured([tecmp(one(START_NS, flags=0x8000) * 2, 5 + i) for i in range(2)], number=6))
    assert bench.losses == [(2, 1), (5, 1), (6, 2), (7, 2)]
    assert bench.ledger.notes == {"logger_overflows": 6}


@pytest.mark.parametrize("ahead_ns", [-START_NS + 5 * S, 3600 * S])
def test_a_logger_by_another_clock(ahead_ns: int) -> None:
    """Its times are kept; ordinary frames beside it get times by its clock; one break says so."""
    bench = Bench()
    bench.put(captured([FRAME] * 3))
    assert len(bench.frames) == 3
    bench.put(captured([tecmp(one(START_NS + 10 * MS + ahead_ns)), FRAME], START_NS + 11 * MS, MS, 4))
    assert bench.breaks == [Break(START_NS + 10 * MS + ahead_ns, "eth1", bench.breaks[0].why)]
    assert bench.unwrapper.reached_ns < START_NS + 10 * MS + ahead_ns
    bench.end()
    assert [frame.time_ns for frame in bench.frames[3:]] == [
        START_NS + 10 * MS + ahead_ns,
        START_NS + 11 * MS + ahead_ns,
    ]
    assert bench.losses == []


def test_a_clock_step_parts_the_frames() -> None:
    """What waited comes before it, what comes after it does not wait for that."""
    bench = Bench()
    carriers = [
        tecmp(one(5 * S)),
        tecmp(one(5 * S + MS), 1),
        tecmp(one(START_NS), 2),
        tecmp(one(START_NS + MS), 3),
    ]
    bench.put(captured(carriers))
    assert len(bench.breaks) == 2
    assert bench.losses == []
    assert [frame.time_ns for frame in bench.frames] == [5 * S, 5 * S + MS]
    bench.end()
    assert [frame.time_ns for frame in bench.frames[2:]] == [START_NS, START_NS + MS]
    assert bench.ledger.notes == {"logger_clock_steps": 2}


@pytest.mark.parametrize("step_ns", [3600 * S, -3600 * S])
def test_what_waits_comes_before_a_step(step_ns: int) -> None:
    """Whichever way the clock goes."""
    bench = Bench()
    carriers = [tecmp(one(START_NS)), tecmp(one(START_NS + step_ns), 1)]
    bench.ledger.enter("frames", 2)
    before, broken, after = bench.unwrapper.unwrap(captured(carriers))
    assert isinstance(before, list)
    assert [frame.time_ns for frame in before] == [START_NS]
    assert isinstance(broken, Break)
    assert broken.time_ns == START_NS + step_ns
    assert after == []


def test_time_passes_although_nothing_comes() -> None:
    """The last frames of a bus that falls silent do not wait for another."""
    bench = Bench()
    bench.put(captured([tecmp(one(START_NS - 5 * MS))]))
    assert bench.frames == []
    bench.take([bench.unwrapper.passed(START_NS + 99 * MS)])
    assert bench.frames == []
    bench.take([bench.unwrapper.passed(START_NS + 100 * MS)])
    assert [frame.time_ns for frame in bench.frames] == [START_NS - 5 * MS]
    bench.take([bench.unwrapper.passed(START_NS + S)])
    assert bench.unwrapper.reached_ns == START_NS + 895 * MS
    bench.end()
    assert bench.ledger.notes[LATE] == 0


def test_an_interruption_of_the_capture() -> None:
    """What waits comes before it; how far it is is not known until the next recording."""
    bench = Bench()
    broken = Break(START_NS + 3 * S, "eth1", "interface eth1 was down for 3 s")
    bench.take(bench.unwrapper.interrupt(broken))
    assert bench.breaks == [broken]
    bench.put(captured([tecmp(one(START_NS))]))
    bench.take(bench.unwrapper.interrupt(broken))
    assert [frame.time_ns for frame in bench.frames] == [START_NS]
    assert bench.breaks == [broken, broken]
    assert bench.unwrapper.passed(START_NS + 9 * S) == []
    assert bench.unwrapper.reached_ns == 0
    bench.put(captured([tecmp(one(START_NS + 4 * S), 1)], START_NS + 4 * S))
    bench.take([bench.unwrapper.passed(START_NS + 5 * S)])
    assert bench.unwrapper.reached_ns == START_NS + 5 * S - 100 * MS
    bench.end()


@st.composite
def noisy_frames(draw: st.DrawFn) -> bytes:
    """A frame of a logger with random bytes in it, cut anywhere, or random bytes behind an EtherType."""
    entry = Recorded(
        draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 2**64 - 1)), FRAME, draw(st.integers(0, 255))
    )
    kind = draw(st.sampled_from(["tecmp", "cmp", "random"]))
    if kind == "tecmp":
        data = tecmp(
            [entry] * draw(st.integers(0, 3)), draw(st.integers(0, 65535)), flags=draw(st.integers(0, 65535))
        )
    elif kind == "cmp":
        message = cmp_message(entry, flags=draw(st.sampled_from((0, 4, 8, 12))))
        data = cmp([message] * draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    else:
        data = bytes(12) + draw(st.sampled_from((b"\x99\xfe", b"\x20\x90"))) + draw(st.binary(max_size=120))
    noisy = bytearray(data)
    for at, value in draw(st.lists(st.tuples(st.integers(14, 120), st.integers(0, 255)), max_size=4)):
        if at < len(noisy):
            noisy[at] = value
    return bytes(noisy[: draw(st.integers(0, len(noisy)))] if draw(st.booleans()) else noisy)


@settings(max_examples=150)
@given(st.lists(st.lists(noisy_frames(), max_size=5), max_size=6))
def test_damage_never_raises_and_the_books_balance(batches: list[list[bytes]]) -> None:
    """Whatever comes; and everything that is handed on has a time that fits."""
    bench = Bench()
    number = 1
    for i, batch in enumerate(batches):
        bench.put(captured(batch, START_NS + i * S, number=number))
        bench.take([bench.unwrapper.passed(START_NS + i * S)])
        number += len(batch)
    bench.end()
    assert all(0 <= frame.time_ns < 1 << 63 for frame in bench.frames)
    assert bench.losses == sorted(bench.losses, key=lambda loss: loss[0])
