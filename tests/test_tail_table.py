"""What `ecustream tail` says: its table, its lines, its times, from items without sockets."""

import io
import re
from typing import Any

import msgspec
import pytest
from rich.console import Console

from ecustream.client.addresses import addresses
from ecustream.client.items import Alive, Denied, Item, Lost, NewRun, Notice, Stale, Synced
from ecustream.errors import ConfigError
from ecustream.events import Event
from ecustream.tail.board import Board
from ecustream.tail.command import tail
from ecustream.tail.lines import clock, duration, event_line, notice_text
from ecustream.tail.table import draw
from tests.publish.examples import make_event, make_status

pytestmark = pytest.mark.timeout(60)

RUN = make_event(1).run
NOW_NS = 1_700_000_100_000_000_000
S = 1_000_000_000


def board_of(*items: Item) -> Board:
    """A board that has taken all these at once."""
    board = Board("tcp://here:1", "tcp://here:2", NOW_NS)
    for item in items:
        board.take(item, NOW_NS)
    return board


def test_nobody_is_said_soon() -> None:
    """That nobody publishes shows before the stream counts as stale."""
    board = board_of()
    assert board.trouble(NOW_NS + S) is None
    assert board.trouble(NOW_NS + 2 * S) == "nobody publishes at tcp://here:1; waiting"
    board.take(make_status(0), NOW_NS + 2 * S)
    assert board.trouble(NOW_NS + 2 * S) is None


def shown(board: Board, after_s: float = 0, height: int = 30, width: int = 140, colour: bool = False) -> str:
    """The table as text."""
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=colour)
    console.print(draw(board, console, NOW_NS + round(after_s * S)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def episode(number: int, phase: Any = "open", **fields: Any) -> Event:
    """An event of the episode of that number."""
    event = make_event(number)
    return msgspec.structs.replace(event, id=f"e{number}", phase=phase, published_ns=NOW_NS, **fields)


def test_open_then_closed() -> None:
    """An open episode stands on top with its age, later below with how long it lasted."""
    board = board_of(episode(1))
    assert re.search(r"open: 1\n3\.0 s +anomaly +ESC_03 +ESC_03 came", shown(board, after_s=3))
    board.take(episode(1, "close", end_ns=make_event(1).start_ns + 90 * S), NOW_NS)
    assert re.search(r"open: 0\n\nclosed last.*\n22:14:55 after 90 s +anomaly", shown(board))


@pytest.mark.parametrize("width", [80, 100, 129, 130, 200])
def test_the_reason_is_shown_whole(width: int) -> None:
    """From 80 columns on the reason is never cut; the sources are shown where there are several."""
    long = make_event(1).reason + ", which is later than anything that came in clean traffic"
    board = board_of(episode(1, reason=long), episode(2, "close", end_ns=NOW_NS))
    text = shown(board, width=width)
    assert text.split().count("clean") == 1
    assert text.count("(9.6 to 10.5)") == 2
    assert all(len(line) <= width for line in text.splitlines())
    assert text.count("eth1") == 0
    assert shown(board_of(episode(1), episode(2, source="can0")), width=width).count("can0") == 1


def test_a_reason_without_end_is_cut() -> None:
    """One episode does not push the others off the terminal."""
    text = shown(board_of(episode(1, reason="x " * 999), episode(2)), width=80)
    assert text.count("ESC_03 came") == 1
    assert text.count("x x") > 0
    assert text.count("\n") < 12


@pytest.mark.parametrize("height", [10, 24, 60])
def test_a_table_fits_the_terminal(height: int) -> None:
    """However many episodes, the table has no more lines than the terminal, from 24 on."""
    items = [episode(n, "close" if n < 100 else "open", end_ns=NOW_NS) for n in range(200)]
    text = shown(board_of(*items, *[Lost(RUN, 1, 2)] * 9, make_status(0)), height=height, width=90)
    assert text.count("\n") <= max(height, 24)
    assert "open: 100, the " in text
    assert "closed last" in text


def test_what_is_open_is_what_the_snapshot_says() -> None:
    """`Synced` replaces what is open, but not the age of what was; a new run has nothing open."""
    board = board_of(episode(1), episode(2), Synced(RUN, 5, [episode(2), episode(3)]))
    assert list(board.open) == ["e2", "e3"]
    offline = make_event(4)
    for at_ns in (NOW_NS, NOW_NS + 9 * S):
        board.take(Synced(RUN, 5, [offline]), at_ns)
    assert 9 * S < board.open[offline.id].age_ns(NOW_NS + 9 * S) < 10 * S
    board.take(NewRun(RUN, "next"), NOW_NS)
    assert (board.run, board.seq, list(board.open)) == ("next", 0, [])


def test_drops_and_losses_stand_out() -> None:
    """What was overwritten or dropped by the publisher, and what was lost on the way."""
    status = make_status(3)
    status.ledger = {
        "lines": {"entered": 9, "scored": 5, "overwritten{backlog}": 4},
        "events": {"dropped": 1},
    }
    assert "drops 5" in shown(board_of(status))
    assert "EVENTS LOST" in shown(board_of(status, Lost(RUN, 1, None)))


def test_staleness_is_red_unless_the_run_has_ended() -> None:
    """A silence is alarming only where messages are due."""
    status = make_status(3)
    red = r"\x1b\[1;31mSTALE: last message 12 s ago"
    assert re.search(red, shown(board_of(status, Stale(NOW_NS)), after_s=12, colour=True))
    status.state = "done"
    text = shown(board_of(status, Stale(NOW_NS)), after_s=12)
    assert "done" in text
    assert "STALE" not in text
    assert "nothing has come" not in text
    assert "nothing has come since" in shown(board_of(make_status(3), Stale(NOW_NS)))
    answered = Synced(RUN, 3, [])
    assert "STALE" in shown(board_of(make_status(3), Stale(NOW_NS), answered))
    assert "STALE" not in shown(board_of(make_status(3), Stale(NOW_NS), answered, Alive()))


def test_a_reply_socket_that_does_not_answer() -> None:
    """Messages without an answer mean that the second address is wrong."""
    board = board_of(make_status(3))
    assert board.trouble(NOW_NS + 4 * S) is None
    assert board.trouble(NOW_NS + 5 * S) == "messages come, but tcp://here:2 does not answer; waiting"
    assert "tcp://here:2 does not answer" in shown(board, after_s=5)


@pytest.mark.parametrize(
    ("notice", "text"),
    [
        (Synced("r", 4, []), "in step with run r at event 4, 0 open"),
        (NewRun("r", "s"), "new run s"),
        (NewRun("r", "r"), "run r was begun again"),
        (Lost("r", 4, None), "LOST: all events of run r from 4 on, if there were any"),
        (Lost("r", 4, 4), "LOST: event 4 of run r"),
        (Lost("r", 4, 5), "LOST: events 4 to 5 of run r"),
        (Alive(), "messages come again"),
        (Denied("tcp://h:1", "is your key on its list?"), "refused by tcp://h:1: is your key on its list?"),
    ],
)
def test_notices_in_words(notice: Notice, text: str) -> None:
    """Each notice is a short sentence."""
    assert notice_text(notice) == text


def test_event_line() -> None:
    """Time, phase, kind, source, PDUs and reason; a long list of PDUs is cut short."""
    event = make_event(1)
    line = r"2023-11-14 22:14:55\.774000  open    anomaly      eth1  ESC_03  ESC_03 came 31\.5 ms after .*"
    assert re.fullmatch(line, event_line(event))
    closed = make_event(1, phase="close")
    closed.end_ns, closed.lines = closed.start_ns + 580_000_000, 2
    assert f"  after 0.58 s, 2 lines: {closed.reason}" in event_line(closed)
    closed.lines = 1
    assert "s, 1 line: " in event_line(closed)
    event.pdus = [msgspec.structs.replace(event.pdus[0], name=f"P{n}") for n in range(5)]
    assert "  P0, P1, P2 and 2 more  " in event_line(event)


def test_the_trace_is_shown_where_there_are_several() -> None:
    """A run over several traces says of which an event is; its name is text like any other."""
    event = msgspec.structs.replace(make_event(1), trace="b/drive.pcap\x1b[2J")
    assert "  eth1 in b/drive.pcap\ufffd[2J  ESC_03  " in event_line(event)
    first = episode(1, trace="a.pcap")
    second = episode(2, "close", end_ns=NOW_NS, trace="b.pcap")
    lines = shown(board_of(first, second)).splitlines()
    assert sum(bool(re.search("anomaly +a.pcap +ESC_03", line)) for line in lines) == 1
    assert sum(bool(re.search("anomaly +b.pcap +ESC_03", line)) for line in lines) == 1


def test_text_does_not_steer_the_terminal() -> None:
    """A name with control characters or markup is shown, not obeyed, in lines and in the table."""
    event = episode(1, reason="\x1b[2Jgone\r\n[red]x", source="\x1b]0;title\x07")
    assert event_line(event).isprintable()
    text = shown(board_of(event))
    assert "[2Jgone\ufffd\ufffd[red]x" in text
    assert text.replace("\n", "").isprintable()


def test_times_and_spans() -> None:
    """Spans in their largest fitting unit; a time that no calendar has is shown as it is."""
    assert [duration(round(s * S)) for s in (-1, 3.14, 119, 120, 7200, 10**6)] == [
        "0.00 s",
        "3.1 s",
        "119 s",
        "2 min",
        "2 h",
        "12 d",
    ]
    assert clock(10**30) == f"{10**30} ns"


def test_the_reply_port_is_the_next_one() -> None:
    """One address says both where the ports follow each other; elsewhere both are given."""
    assert addresses("tcp://[::1]:5556") == ("tcp://[::1]:5556", "tcp://[::1]:5557")
    assert addresses("ipc://a,ipc://b") == ("ipc://a", "ipc://b")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"connect": "127.0.0.1:5556"}, '--connect "127.0.0.1:5556": write tcp://HOST:PORT'),
        ({"connect": "nonsense,tcp://127.0.0.1:1"}, 'connect "nonsense" is no socket address'),
        ({"since": "17"}, '--since "17": write RUN:SEQ, or start'),
        ({"since": "run:-1"}, '--since "run:-1": write RUN:SEQ, or start'),
        ({"kinds": ["anomly"]}, '--kind "anomly": there is no such kind; choose from anomaly, silence'),
    ],
)
def test_arguments_refused(arguments: dict[str, Any], why: str) -> None:
    """What cannot be used is refused in one sentence that names the option."""
    with pytest.raises(ConfigError, match=re.escape(why)):
        tail(**arguments)
