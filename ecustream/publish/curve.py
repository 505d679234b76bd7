"""Lets in only readers whose public key is listed (CURVE, with ZAP as libzmq asks for it)."""

import time
from pathlib import Path
from typing import Any

import zmq
import zmq.utils.z85

from ecustream.errors import ConfigError
from ecustream.publish.keys import read_allowed, read_secret

__all__ = ["Curve", "Gate"]

ZAP_URL = "inproc://zeromq.zap.01"
ZAP_DOMAIN = b"ecustream"
# The list is read again when somebody connects, but strangers must not keep the disk busy.
REREAD_S = 1.0


class Curve:
    """The publisher's own keys, and those of its readers, which are read again while it runs.

    Args:
        secret: file of the publisher's secret key.
        clients: file or folder of the public keys that may connect.

    Raises:
        ConfigError: a file is missing, malformed, or a secret that others may read.
    """

    def __init__(self, secret: str | Path, clients: str | Path) -> None:
        self.keys = read_secret(secret)
        self._clients = Path(clients)
        self._allowed = read_allowed(clients)
        self._read_s = time.monotonic()

    def allows(self, key: bytes) -> bool:
        """Whether the public key (32 bytes) is listed now; nobody is let in by a list that is damaged."""
        if time.monotonic() - self._read_s >= REREAD_S:
            try:
                self._allowed = read_allowed(self._clients)
            except ConfigError:
                self._allowed = frozenset()
            self._read_s = time.monotonic()
        return len(key) == 32 and zmq.utils.z85.encode(key) in self._allowed

    def secure(self, socket: zmq.Socket[Any]) -> None:
        """Makes a socket that is not bound yet speak CURVE only."""
        socket.curve_server = True
        socket.curve_publickey = self.keys.public
        socket.curve_secretkey = self.keys.secret
        socket.zap_domain = ZAP_DOMAIN


class Gate:
    """Answers libzmq, which asks about each connection to the sockets of a context.

    To be made before those sockets are bound; connections wait until `answer_all` is called.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], curve: Curve) -> None:
        self._curve = curve
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind(ZAP_URL)

    def answer_all(self) -> None:
        """Answers all that libzmq has asked by now."""
        while self.socket.poll(0):
            self.socket.send_multipart(self._answer(self.socket.recv_multipart()))

    def _answer(self, request: list[bytes]) -> list[bytes]:
        version, number, domain, _address, _identity, mechanism, *credentials = request
        known = (domain, mechanism) == (ZAP_DOMAIN, b"CURVE") and self._curve.allows(b"".join(credentials))
        verdict = [b"200", b"OK"] if known else [b"400", b"this key is not listed"]
        return [version, number, *verdict, b"", b""]
