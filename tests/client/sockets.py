"""Publishers on real sockets: a bare one that speaks the contract and can misbehave, and lossy lines."""

import contextlib
import socket as posix
import threading
from collections.abc import Callable
from typing import Self

import zmq

from ecustream.events import Event
from ecustream.publish.messages import ScoreBatch, Status, encode, topic
from tests.client.examples import make_status
from tests.client.server import ModelServer

__all__ = ["BarePublisher", "Line"]

ANY = "tcp://127.0.0.1:*"


class BarePublisher:
    """PUB and ROUTER in front of a `ModelServer`, bound to `pub` and `reply` while it is open.

    `lost` decides which events the stream loses, `answer` what is answered, None for nothing. Statuses
    go out all the time, unless `silent`.
    """

    def __init__(
        self,
        model: ModelServer,
        pub: str = ANY,
        reply: str = ANY,
        *,
        lost: Callable[[Event], bool] = lambda event: False,
        answer: Callable[[bytes], bytes | None] | None = None,
        silent: bool = False,
        secret_key: bytes | None = None,
    ) -> None:
        self.model = model
        self._silent = silent
        self._lost = lost
        self._answer = answer or model.answer
        self._lock = threading.Lock()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._pub = self._context.socket(zmq.PUB)
        self._router = self._context.socket(zmq.ROUTER)
        for socket in (self._pub, self._router):
            socket.linger = 0
            if secret_key is not None:
                socket.curve_server = True
                socket.curve_secretkey = secret_key
        self.pub = self._bind(self._pub, pub)
        self.reply = self._bind(self._router, reply)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def publish(self, count: int = 1) -> None:
        """Publishes the next events."""
        for _ in range(count):
            with self._lock:
                event = self.model.publish()
                if not self._lost(event):
                    self._send(event)

    def say(self, message: Status | ScoreBatch) -> None:
        """Sends a status or scores."""
        with self._lock:
            self._send(message)

    def close(self) -> None:
        """Goes away without a word, as if killed; addresses are free afterwards."""
        self._closing.set()
        self._thread.join()
        self._context.destroy(linger=0)

    def _send(self, message: Event | Status | ScoreBatch) -> None:
        self._pub.send_multipart([topic(message), encode(message)])

    def _bind(self, socket: zmq.Socket[bytes], url: str) -> str:
        socket.bind(url)
        endpoint = socket.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(endpoint, bytes)
        return endpoint.rstrip(b"\0").decode()

    def _serve(self) -> None:
        while not self._closing.is_set():
            if not self._silent:
                with self._lock:
                    self._send(make_status(self.model.run, self.model.seq))
            if self._router.poll(20):
                identity, request = self._router.recv_multipart()
                with self._lock:
                    answer = self._answer(request)
                if answer is not None:
                    self._router.send_multipart([identity, answer])


class Line:
    """A TCP line to `url` that can go dead without closing: what is on it then stays there for ever."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("tcp://").split(":")
        self._target = (host, int(port))
        self._listener = posix.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._dead: set[posix.socket] = set()
        self._open: list[posix.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for socket in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                socket.shutdown(posix.SHUT_RDWR)
            socket.close()

    def cut(self) -> None:
        """The connections of now carry nothing any more; new ones work."""
        self._dead.update(self._open)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = posix.create_connection(self._target)
                self._open += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=pair, daemon=True).start()

    def _copy(self, source: posix.socket, target: posix.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if source not in self._dead:
                    target.sendall(data)
            if source not in self._dead:
                target.shutdown(posix.SHUT_RDWR)
