"""Serves the metrics to Prometheus, on this machine only."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket as Socket  # noqa: N812 - it is a class
from typing import Any, Self

from ecustream.errors import OutputError
from ecustream.metrics import CONTENT_TYPE

__all__ = ["MetricsServer"]

_MOST_AT_ONCE = 8
_PATIENCE_S = 2.0


class MetricsServer:
    """Answers `GET /metrics` and `GET /health` on 127.0.0.1; use as a context manager.

    `/health` answers 200 with `{"healthy":true,"reason":null}`, or 503 and the reason. At most eight
    requests are answered at once, and a client that is silent for two seconds is left.

    Args:
        port: 0 takes a free one, see the attribute of the same name.
        metrics: gives the text; called in some thread.
        health: gives what is wrong, None where nothing is; called in some thread.

    Raises:
        OutputError: the port is in use.
    """

    def __init__(self, port: int, metrics: Callable[[], str], health: Callable[[], str | None]) -> None:
        class Handler(_Handler):
            answers = {"/metrics": lambda: _metrics(metrics), "/health": lambda: _health(health)}  # noqa: RUF012

        try:
            self._server = _Server(("127.0.0.1", port), Handler)
        except OSError as error:
            raise OutputError(
                f"metrics.port: 127.0.0.1:{port} cannot be bound: {error.strerror}; "
                "`ss -ltnp` says by whom it is used"
            ) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="metrics", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


Answer = tuple[int, str, bytes]


def _metrics(metrics: Callable[[], str]) -> Answer:
    return 200, CONTENT_TYPE, metrics().encode()


def _health(health: Callable[[], str | None]) -> Answer:
    reason = health()
    body = json.dumps({"healthy": reason is None, "reason": reason}).encode()
    return 200 if reason is None else 503, "application/json", body


class _Handler(BaseHTTPRequestHandler):
    """One request a connection (HTTP/1.0)."""

    timeout = _PATIENCE_S
    answers: dict[str, Callable[[], Answer]]

    def do_GET(self) -> None:
        answer = self.answers.get(self.path.partition("?")[0])
        if answer is None:
            self.send_error(404, "there is /metrics and /health")
            return
        status, kind, body = answer()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "ecustream"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the base class
        """Nothing: it would be a line a request."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._room = threading.BoundedSemaphore(_MOST_AT_ONCE)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Socket | tuple[bytes, Socket], client_address: Any) -> None:
        """Nothing: a client that goes away is none of our errors."""
