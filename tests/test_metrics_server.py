"""The port of the metrics, read with urllib and abused with sockets."""

import contextlib
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from ecustream.errors import OutputError
from ecustream.metrics import CONTENT_TYPE
from ecustream.metrics_server import MetricsServer

TEXT = "ecustream_lag_seconds 0.5\n"


@pytest.fixture
def problems() -> list[str]:
    """What is wrong; the first is told."""
    return []


@pytest.fixture
def server(problems: list[str]) -> Iterator[MetricsServer]:
    def health() -> str | None:
        return problems[0] if problems else None

    with MetricsServer(0, lambda: TEXT, health) as running:
        yield running


def get(server: MetricsServer, path: str, method: str = "GET") -> tuple[int, str, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read()


def test_metrics(server: MetricsServer) -> None:
    """The text, with the format's content type; a query is passed over."""
    assert get(server, "/metrics") == (200, CONTENT_TYPE, TEXT.encode())
    assert get(server, "/metrics?name[]=x")[0] == 200


def test_health(server: MetricsServer, problems: list[str]) -> None:
    """200 while all is well, else 503 with the reason."""
    status, kind, body = get(server, "/health")
    assert (status, kind) == (200, "application/json")
    assert json.loads(body) == {"healthy": True, "reason": None}
    problems.append("scoring has stood still for 12.0 s")
    status, _, body = get(server, "/health")
    assert status == 503
    assert json.loads(body) == {"healthy": False, "reason": problems[0]}


@pytest.mark.parametrize("path", ["/", "/metrics/", "/etc/passwd", "/../metrics", "/health/x"])
def test_there_is_nothing_else(server: MetricsServer, path: str) -> None:
    """Any other path is 404."""
    assert get(server, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
def test_only_get(server: MetricsServer, method: str) -> None:
    """Nothing can be changed here."""
    assert get(server, "/metrics", method)[0] == 501


def test_only_this_machine(server: MetricsServer) -> None:
    """The port is bound to 127.0.0.1, not to every address."""
    with socket.socket() as other, pytest.raises(ConnectionRefusedError):
        other.connect(("127.0.0.2", server.port))


def test_says_nothing_of_the_interpreter(server: MetricsServer) -> None:
    """The Server header names the program, not Python's version."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
        assert answer.headers["Server"] == "ecustream"


def test_a_port_in_use(server: MetricsServer) -> None:
    """One sentence that names it."""
    with pytest.raises(OutputError, match=rf"metrics\.port: 127\.0\.0\.1:{server.port} cannot be bound"):
        MetricsServer(server.port, lambda: "", lambda: None)


def test_garbage_and_clients_that_go_away(server: MetricsServer, capfd: pytest.CaptureFixture[str]) -> None:
    """They get an error or nothing; the next one is answered, and nothing is printed."""
    for sent in (b"", b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"GET /" + b"x" * 100_000, b"GET /metrics"):
        # What is sent to a closed connection may be refused, which is an answer too.
        with socket.create_connection(("127.0.0.1", server.port)) as client, contextlib.suppress(OSError):
            client.sendall(sent)
    assert get(server, "/metrics")[0] == 200
    assert capfd.readouterr().err == ""


def test_a_renderer_that_fails(capfd: pytest.CaptureFixture[str]) -> None:
    """The connection breaks off, and the next request is served."""
    texts = iter([TEXT])
    with MetricsServer(0, lambda: next(texts), lambda: None) as server:
        assert get(server, "/metrics")[0] == 200
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            get(server, "/metrics")
        assert get(server, "/health")[0] == 200
    assert capfd.readouterr().err == ""


def test_silent_clients_are_few_and_left(server: MetricsServer) -> None:
    """The ninth is sent away while eight are waited for; those are left after two seconds, each."""
    address = ("127.0.0.1", server.port)
    silent = [socket.create_connection(address, timeout=10) for _ in range(8)]
    with socket.create_connection(address, timeout=10) as ninth:
        assert ninth.recv(10) == b""
    silent[0].setblocking(False)
    with pytest.raises(BlockingIOError):
        silent[0].recv(10)
    silent[0].settimeout(10)
    assert [client.recv(10) for client in silent] == [b""] * 8
    for client in silent:
        client.close()
    while True:
        # The threads that served them may take a moment to end.
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            assert get(server, "/metrics")[0] == 200
            break
