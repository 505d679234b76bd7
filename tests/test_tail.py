"""Following events in a terminal."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
import zmq

from ecustream.errors import ConfigError
from ecustream.publish.messages import encode
from ecustream.tail import event_line, tail
from tests.publish.examples import make_event, make_status


@pytest.fixture
def server() -> Iterator[tuple[str, Callable[[], None]]]:
    """The URL of a plain PUB socket, and a function that sends a status and an event until the test ends."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.PUB)
    socket.linger = 0
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(0.005):
            socket.send_multipart([b"status/eth1/", encode(make_status())])
            socket.send_multipart([b"event/anomaly/eth1/", encode(make_event(1))])

    sender = threading.Thread(target=send, daemon=True)
    yield f"tcp://127.0.0.1:{port}", sender.start
    stop.set()
    if sender.is_alive():
        sender.join(5)
    context.destroy(linger=0)


def test_prints_one_readable_line_an_event(
    server: tuple[str, Callable[[], None]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each event is one line of time, phase, kind, source, PDUs and reason; a status is none."""
    url, start = server
    start()
    tail(url, count=2)
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 2
    assert re.fullmatch(
        r"2023-11-1\d \d\d:\d\d:55\.774000  open    anomaly      eth1  ESC_03  ESC_03 came 31\.5 ms after .*",
        out[0],
    )


def test_json_prints_the_objects(
    server: tuple[str, Callable[[], None]], capsys: pytest.CaptureFixture[str]
) -> None:
    """`--json` prints the bytes of the socket, for jq."""
    url, start = server
    start()
    tail(url, json=True, count=1)
    assert capsys.readouterr().out == encode(make_event(1)).decode() + "\n"


def test_interrupt_ends_cleanly(server: tuple[str, Callable[[], None]]) -> None:
    """Ctrl-C, while nothing comes, ends it with exit code 0 and no traceback."""
    code = f"from ecustream.tail import tail; tail({server[0]!r})"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == f"following {server[0]}, Ctrl-C ends\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == ""
        assert process.wait(10) == 0


def test_closed_pipe_ends_cleanly(server: tuple[str, Callable[[], None]]) -> None:
    """`tail | head -1` ends when head has gone, without a complaint."""
    url, start = server
    code = f"from ecustream.tail import tail; tail({url!r})"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        start()
        assert "ESC_03" in process.stdout.readline()
        process.stdout.close()
        assert process.wait(10) == 0
        assert process.stderr.read() == f"following {url}, Ctrl-C ends\n"


def test_wrong_address() -> None:
    """An address that cannot be connected to is refused in one sentence that names the option."""
    with pytest.raises(ConfigError, match=r'--connect "127\.0\.0\.1:5556" is no socket address'):
        tail("127.0.0.1:5556")


def test_event_line_of_many_pdus() -> None:
    """A long list of PDUs is cut short."""
    event = make_event(1)
    event.pdus = event.pdus * 5
    assert "ESC_03, ESC_03, ESC_03 and 2 more" in event_line(encode(event))


def test_event_line_of_another_version() -> None:
    """Fields that a later version renames or adds do not stop an older tail."""
    assert event_line(b'{"start_ns":1700000000000000001,"kind":"new_kind","reason":"x"}').endswith(
        "20.000000  ?       new_kind     ?  x"
    )


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"start_ns":"x"}', b'{"start_ns":1e300}', b"[" * 5000]
)
def test_event_line_of_garbage(body: bytes) -> None:
    """Garbage on the socket is one line that says so."""
    assert event_line(body) == f"unreadable event of {len(body)} bytes"


def test_event_line_does_not_steer_the_terminal() -> None:
    """A PDU name with control characters is shown, not obeyed."""
    event = make_event(1)
    event.reason = "\x1b[2Jgone\r\n"
    line = event_line(encode(event))
    assert line.isprintable()
    assert "[2Jgone" in line
