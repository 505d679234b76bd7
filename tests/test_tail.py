"""Following events in a terminal."""

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

import msgspec
import pytest

from ecustream.client.items import Alive, Item, Stale, Synced
from ecustream.publish.messages import encode
from ecustream.publish.socket import Publisher
from ecustream.tail.board import Board
from ecustream.tail.command import _plain_lines, _print
from ecustream.tail.lines import HEADING, event_line
from tests.publish.examples import make_event, make_status

pytestmark = pytest.mark.timeout(60)

ANY = "tcp://127.0.0.1:*"
RUN = make_event(1).run
NOW_NS = 1_700_000_100_000_000_000
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
