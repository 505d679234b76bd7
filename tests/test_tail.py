"""Following events in a terminal."""

import io
import json
import os
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from rich.console import Console

from ecustream.client.addresses import addresses
from ecustream.client.items import Alive, Denied, Item, Lost, NewRun, Notice, Stale, Synced
from ecustream.errors import ConfigError
from ecustream.events import Event
from ecustream.publish.messages import encode
from ecustream.publish.socket import Publisher
from ecustream.tail.board import Board
from ecustream.tail.command import _plain_lines, _print, tail
from ecustream.tail.lines import HEADING, clock, duration, event_line, notice_text
from ecustream.tail.table import draw
from tests.publish.examples import make_event, make_status

pytestmark = pytest.mark.timeout(60)

ANY = "tcp://127.0.0.1:*"
RUN = make_event(1).run
NOW_NS = 1_700_000_100_000_000_000
S = 1_000_000_000
MAIN = "from ecustream.cli import main; main()"
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    """A publisher that has published two events."""
    with Publisher(ANY, ANY, make_status(0)) as publisher:
        for seq in (1, 2):
            publisher.publish(make_event(seq))
        yield publisher


@pytest.fixture
def start(publisher: Publisher) -> Iterator[Start]:
    """Starts `ecustream tail` with options, in a process whose output is a pipe."""
    processes: list[subprocess.Popen[str]] = []

    def start(*options: str, code: str = MAIN) -> subprocess.Popen[str]:
        address = f"{publisher.pub_url},{publisher.reply_url}"
        command = [sys.executable, "-c", code, "tail", "--connect", address, *options]
        pipe = subprocess.PIPE
        processes.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def lines_of(process: subprocess.Popen[str], count: int) -> list[str]:
    """The next lines of its output."""
    assert process.stdout is not None
    return [process.stdout.readline().rstrip("\n") for _ in range(count)]


def test_plain_lines(publisher: Publisher, start: Start) -> None:
    """Where the output is a pipe, each event and each notice is one line; a status is none."""
    process = start("--count", "1")
    heading, synced = lines_of(process, 2)
    assert heading == HEADING
    assert re.fullmatch(
        rf"\[wall time 20\d\d-.* UTC\] in step with run {RUN} at event 2, 2 open: ESC_03", synced
    )
    publisher.publish_status(make_status(2))
    publisher.publish(make_event(3))
    (event,) = lines_of(process, 1)
    assert event == event_line(make_event(3))
    assert process.communicate() == ("", "")
    assert process.returncode == 0


def test_a_run_that_is_done(publisher: Publisher, start: Start) -> None:
    """The end of a run is said once, after its last event, though its status comes again and again."""
    process = start("--since", "start")
    lines_of(process, 4)
    for _ in range(3):
        publisher.publish_status(msgspec.structs.replace(make_status(2), state="done"))
    assert lines_of(process, 1)[0].endswith(f"UTC] run {RUN} is done: 2 events")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10) == ("", "")


def test_done_waits_for_what_is_replayed() -> None:
    """A status that overtakes replayed events does not end the run before them; a silence or filter does."""
    done = msgspec.structs.replace(make_status(2), state="done")
    first: list[Item] = [Synced(RUN, 1, []), done]
    for filtered, items, count in (
        (False, first, 0),
        (False, [*first, make_event(2), done], 1),
        (False, [*first, Stale(NOW_NS), Alive(), done], 1),
        (True, first, 1),
        (False, [*first, make_event(2), make_status(2), done], 2),
    ):
        board = Board("tcp://here:1", "tcp://here:2", NOW_NS)
        lines_of_item = _plain_lines(board, filtered=filtered)
        lines: list[str] = []
        for item in items:
            board.take(item, NOW_NS)
            lines += lines_of_item(item)
        assert sum("is done: 2 events" in line for line in lines) == count
        assert not any("nothing has come" in line or "come again" in line for line in lines)


def test_json_lines(publisher: Publisher, start: Start) -> None:
    """`--json` gives events byte for byte as they were published, and notices that can be told from them."""
    process = start("--json", "--since", f"{RUN}:1", "--count", "2")
    event, synced = lines_of(process, 2)
    assert event == encode(make_event(2)).decode()
    notice = json.loads(synced)
    assert (notice["notice"], notice["run"], notice["seq"]) == ("synced", RUN, 2)
    assert notice["open_episodes"] == [json.loads(encode(make_event(seq))) for seq in (1, 2)]
    publisher.publish(make_event(3))
    assert process.communicate() == (encode(make_event(3)).decode() + "\n", "")


def test_from_the_start(start: Start) -> None:
    """`--since start` begins with the oldest event that the server has."""
    process = start("--json", "--since", "start", "--count", "2")
    assert [json.loads(line)["seq"] for line in lines_of(process, 2)] == [1, 2]


def test_kinds(publisher: Publisher, start: Start) -> None:
    """`--kind` shows events of these kinds only, and the others are no gap."""
    publisher.publish(msgspec.structs.replace(make_event(3), kind="silence"))
    publisher.publish(make_event(4))
    publisher.publish(msgspec.structs.replace(make_event(5), kind="capture_gap"))
    process = start(
        "--json", "--since", "start", "--kind", "silence", "--kind", "capture_gap", "--count", "2"
    )
    assert [json.loads(line)["seq"] for line in process.communicate()[0].splitlines()] == [3, 5]


def test_interrupt_ends_cleanly(start: Start) -> None:
    """Ctrl-C, the ordinary end, gives exit code 0 and no word."""
    process = start()
    lines_of(process, 2)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10) == ("", "")
    assert process.returncode == 0


def test_closed_pipe_ends_cleanly(publisher: Publisher, start: Start) -> None:
    """`tail | head -1` ends when head has gone, without a complaint."""
    process = start("--since", "start")
    lines_of(process, 1)
    assert process.stdout is not None
    process.stdout.close()
    seq = 2
    while process.poll() is None:
        seq += 1
        publisher.publish(make_event(seq))
        time.sleep(0.01)
    assert process.returncode == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_start_is_fast(start: Start) -> None:
    """Nothing heavy is imported; torch alone would take seconds."""
    check = f"import sys\ntry:\n    {MAIN}\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    process = start("--since", "start", "--count", "1", code=check)
    modules = set(process.communicate()[1].split())
    assert "ecustream.tail.command" in modules
    assert not modules & {"torch", "scipy", "transformers", "scapy", "starlette"}


def test_nobody_is_said_though_nothing_comes(capfd: pytest.CaptureFixture[str]) -> None:
    """That nobody publishes is printed without waiting for an item."""
    errors = ""

    def items() -> Iterator[Item]:
        nonlocal errors
        deadline_s = time.monotonic() + 15
        while not errors and time.monotonic() < deadline_s:
            time.sleep(0.01)
            errors = capfd.readouterr().err
        yield Stale(NOW_NS)

    _print(items(), Board("tcp://here:1", "tcp://here:2", time.time_ns()), lambda _: ())
    assert errors == "ecustream: nobody publishes at tcp://here:1; waiting\n"
    assert capfd.readouterr().err == ""


def test_nobody_there_yet() -> None:
    """It says on stderr that nobody publishes, once, and goes on waiting."""
    with Publisher(ANY, ANY, make_status(0)) as publisher:
        urls = publisher.pub_url, publisher.reply_url
    command = [sys.executable, "-c", MAIN, "tail", "--json", "--connect", ",".join(urls), "--count", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert json.loads(*lines_of(process, 1))["notice"] == "stale"
        with Publisher(*urls, make_status(0)) as publisher:
            publisher.publish_status(make_status(0))
            notices = {json.loads(line)["notice"] for line in lines_of(process, 1)}
            publisher.publish_status(make_status(0))
            assert notices <= {"alive", "synced"}
            while process.poll() is None:
                publisher.publish(make_event(publisher._seq + 1))
                time.sleep(0.02)
        assert process.communicate()[1] == f"ecustream: nobody publishes at {urls[0]}; waiting\n"


class Terminal:
    """`ecustream tail` on a pseudo-terminal of 24 lines and 100 columns, and what it has written there."""

    def __init__(self, *options: str) -> None:
        self.master, slave = os.openpty()
        termios.tcsetwinsize(slave, (24, 100))
        # The leader of a session gets the first terminal that it opens for its own, with Ctrl-C.
        code = f"import os; os.open(os.ttyname(0), os.O_RDWR); {MAIN}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "tail", *options],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color"},
        )
        os.close(slave)
        self.written = ""

    def wait_for(self, text: str) -> None:
        """Reads until `text` is there, colours and line ends apart; forgets what was before it."""
        deadline_s = time.monotonic() + 15
        while text not in (plain := re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|[\r\n]", "", self.written)):
            assert time.monotonic() < deadline_s, plain[-3000:]
            if not self._read(0.1):
                assert self.process.poll() is None, plain[-3000:]
        self.written = ""

    def press(self, key: bytes) -> None:
        """Types on the keyboard."""
        os.write(self.master, key)

    def end(self) -> int:
        """Waits for the end; returns the exit code."""
        code = self.process.wait(10)
        while self._read(0):
            pass
        return code

    def _read(self, timeout_s: float) -> bool:
        if not select.select([self.master], [], [], timeout_s)[0]:
            return False
        try:
            data = os.read(self.master, 1 << 16)
        except OSError:  # the other side is closed
            return False
        self.written += data.decode(errors="replace")
        return bool(data)

    def close(self) -> None:
        """Kills the process."""
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def terminal(publisher: Publisher) -> Iterator[Terminal]:
    """`tail` of the publisher on a terminal."""
    terminal = Terminal("--connect", f"{publisher.pub_url},{publisher.reply_url}")
    yield terminal
    terminal.close()


@pytest.mark.parametrize("ends", ["ctrl-c", "terminate"])
def test_live_table(publisher: Publisher, terminal: Terminal, ends: str) -> None:
    """A table that follows what happens, and a terminal as it was when it ends, but for the last table."""
    terminal.wait_for("open: 2")
    publisher.publish_status(make_status(2))
    terminal.wait_for("running   2,500 lines/s   lag 0.004 s   drops 0")
    publisher.publish(msgspec.structs.replace(make_event(3), phase="close", end_ns=make_event(3).start_ns))
    terminal.wait_for("closed last")
    publisher.close()
    terminal.wait_for("STALE: last message")
    if ends == "ctrl-c":
        terminal.press(b"\x03")
        assert terminal.end() == 0
    else:
        terminal.process.terminate()
        assert terminal.end() == 143
    screen_off, cursor_on = terminal.written.rfind("\x1b[?1049l"), terminal.written.rfind("\x1b[?25h")
    assert screen_off >= 0
    assert cursor_on >= 0
    assert "closed last" in terminal.written[screen_off:]
    assert "Traceback" not in terminal.written


def test_live_table_of_nobody() -> None:
    """Says that nobody publishes there, and shows the publisher when it comes."""
    with Publisher(ANY, ANY, make_status(0)) as publisher:
        urls = publisher.pub_url, publisher.reply_url
    terminal = Terminal("--connect", ",".join(urls))
    terminal.wait_for(f"connecting to {urls[0]}")
    terminal.wait_for(f"nobody publishes at {urls[0]}; waiting")
    with Publisher(*urls, make_status(0)) as publisher:
        publisher.publish(make_event(1))
        terminal.wait_for("open: 1")
    terminal.close()


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
