"""Encrypted sockets with a list of readers, over real connections."""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from ecustream.client.items import Denied, Stale, Synced
from ecustream.client.subscriber import Subscriber
from ecustream.errors import ConfigError
from ecustream.publish import curve
from ecustream.publish.curve import Curve, Gate
from ecustream.publish.keys import KeyPair, make_pair, read_public, read_secret
from ecustream.publish.messages import encode
from ecustream.publish.socket import Publisher
from tests.publish.conftest import Socket
from tests.publish.examples import make_event, make_status

STATUS = b'{"op":"status"}'
ANY = "tcp://127.0.0.1:*"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the publisher's keys and a folder `readers` with the public key of `ada`."""
    (tmp_path / "readers").mkdir()
    make_pair("bench", tmp_path)
    make_pair("ada", tmp_path)
    make_pair("eve", tmp_path)
    (tmp_path / "ada.public").rename(tmp_path / "readers" / "ada.public")
    return tmp_path


@pytest.fixture
def publisher(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    """A publisher that lets in `ada` and looks at its list at each connection."""
    monkeypatch.setattr(curve, "REREAD_S", 0.0)
    keys = Curve(folder / "bench.secret", folder / "readers")
    with Publisher(ANY, ANY, make_status(), curve=keys) as publisher:
        yield publisher


def connect(context: zmq.Context[Socket], kind: int, url: str, folder: Path, keys: KeyPair | None) -> Socket:
    """A socket that knows the publisher's key and has those keys."""
    socket = context.socket(kind)
    if kind == zmq.SUB:
        socket.subscribe(b"")
    if keys is not None:
        socket.curve_serverkey = read_public(folder / "bench.public")
        socket.curve_publickey, socket.curve_secretkey = keys
    socket.connect(url)
    return socket


def wait_until(condition: Callable[[], bool]) -> None:
    """Returns once the condition holds; fails where it does not in time."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def ask(dealer: Socket) -> None:
    """Sends a request; libzmq has nowhere to put it where the connection was refused meanwhile."""
    with contextlib.suppress(zmq.Again):
        dealer.send(STATUS, zmq.NOBLOCK)


def answers(context: zmq.Context[Socket], publisher: Publisher, folder: Path, keys: KeyPair) -> bool:
    """Whether a reader with those keys is answered; it is refused where not."""
    refused = publisher.counts().refused
    with connect(context, zmq.DEALER, publisher.reply_url, folder, keys) as dealer:
        ask(dealer)
        wait_until(lambda: dealer.poll(0) > 0 or publisher.counts().refused > refused)
        return dealer.poll(0) > 0


def test_a_listed_reader_reads(publisher: Publisher, folder: Path, context: zmq.Context[Socket]) -> None:
    """Who is on the list gets the stream and answers, as without encryption."""
    ada = read_secret(folder / "ada.secret")
    with connect(context, zmq.SUB, publisher.pub_url, folder, ada) as sub:
        while not sub.poll(10):
            publisher.publish_status(make_status(1))
        assert sub.recv_multipart() == [b"status/eth1/", encode(make_status(1))]
    assert answers(context, publisher, folder, ada)
    assert publisher.counts().refused == 0


@pytest.mark.parametrize("who", ["eve", "nobody", "plain"])
def test_others_get_nothing(
    publisher: Publisher, folder: Path, context: zmq.Context[Socket], who: str
) -> None:
    """Another key, a made-up one, and a connection without keys are refused on both sockets, and counted."""
    keys = {
        "eve": read_secret(folder / "eve.secret"),
        "nobody": KeyPair(*zmq.curve_keypair()),
        "plain": None,
    }[who]
    ada = read_secret(folder / "ada.secret")
    with (
        connect(context, zmq.SUB, publisher.pub_url, folder, keys) as sub,
        connect(context, zmq.DEALER, publisher.reply_url, folder, keys) as dealer,
        connect(context, zmq.SUB, publisher.pub_url, folder, ada) as allowed,
    ):
        ask(dealer)
        wait_until(lambda: publisher.counts().refused >= 2)
        while not allowed.poll(10):
            publisher.publish_status(make_status())
        assert not sub.poll(50)
        assert not dealer.poll(50)
    assert publisher.counts().requests == 0


def test_the_list_is_read_again(publisher: Publisher, folder: Path, context: zmq.Context[Socket]) -> None:
    """A key added or taken away counts from the next connection on; a damaged list lets in nobody."""
    ada, eve = read_secret(folder / "ada.secret"), read_secret(folder / "eve.secret")
    assert not answers(context, publisher, folder, eve)
    (folder / "readers" / "eve.public").write_bytes((folder / "eve.public").read_bytes())
    assert answers(context, publisher, folder, eve)
    (folder / "readers" / "ada.public").unlink()
    assert not answers(context, publisher, folder, ada)
    (folder / "readers" / "eve.public").write_text("damaged")
    assert not answers(context, publisher, folder, eve)


def test_strangers_do_not_keep_the_disk_busy(folder: Path) -> None:
    """The list is read again at most once a second."""
    gate = Curve(folder / "bench.secret", folder / "readers")
    (folder / "readers" / "ada.public").unlink()
    assert gate.allows(zmq.utils.z85.decode(read_secret(folder / "ada.secret").public))
    assert not gate.allows(b"")


def test_the_gate_refuses_what_is_not_curve(folder: Path, context: zmq.Context[Socket]) -> None:
    """No name and password, no other domain opens the gate, even with a listed key."""
    key = zmq.utils.z85.decode(read_secret(folder / "ada.secret").public)
    gate = Gate(context, Curve(folder / "bench.secret", folder / "readers"))
    verdicts = []
    with context.socket(zmq.REQ) as libzmq, gate.socket:
        libzmq.connect("inproc://zeromq.zap.01")
        for domain, mechanism, credentials in (
            (b"ecustream", b"CURVE", [key]),
            (b"ecustream", b"CURVE", [b"short"]),
            (b"ecustream", b"CURVE", []),
            (b"ecustream", b"NULL", []),
            (b"ecustream", b"PLAIN", [key[:16], key[16:]]),
            (b"", b"CURVE", [key]),
        ):
            libzmq.send_multipart([b"1.0", b"7", domain, b"127.0.0.1", b"", mechanism, *credentials])
            gate.answer_all()
            version, number, verdict, *_ = libzmq.recv_multipart()
            assert (version, number) == (b"1.0", b"7")
            verdicts.append(verdict)
    assert verdicts == [b"200"] + [b"400"] * 5


def test_the_subscriber_is_told_of_the_refusal(publisher: Publisher, folder: Path) -> None:
    """Who is not listed is told so, once, and let in as soon as the key is on the list."""
    eve = read_secret(folder / "eve.secret")
    with Subscriber(
        publisher.pub_url,
        publisher.reply_url,
        server_key=read_public(folder / "bench.public"),
        public_key=eve.public,
        secret_key=eve.secret,
        stale_after_s=0.2,
    ) as subscriber:
        assert next(subscriber) == Denied(publisher.pub_url, "is your key on its list?")

        def add_when_refused_again() -> None:
            wait_until(lambda: publisher.counts().refused >= 5)
            (folder / "readers" / "eve.public").write_bytes((folder / "eve.public").read_bytes())

        adding = threading.Thread(target=add_when_refused_again)
        adding.start()
        said = list(itertools.takewhile(lambda item: not isinstance(item, Synced), subscriber))
        adding.join()
    assert any(isinstance(item, Stale) for item in said)
    assert not any(isinstance(item, Denied) for item in said)


def test_over_ipc(folder: Path, context: zmq.Context[Socket]) -> None:
    """Keys protect ipc sockets too."""
    url = f"ipc://{folder}/reply"
    keys = Curve(folder / "bench.secret", folder / "readers")
    with Publisher(ANY, url, make_status(), curve=keys) as publisher:
        assert answers(context, publisher, folder, read_secret(folder / "ada.secret"))
        assert not answers(context, publisher, folder, read_secret(folder / "eve.secret"))


def test_keys_open_an_address_to_other_machines(folder: Path) -> None:
    """With keys no further leave is needed; without, the sentence names both ways."""
    keys = Curve(folder / "bench.secret", folder / "readers")
    with Publisher("tcp://0.0.0.0:*", ANY, make_status(), curve=keys) as publisher:
        assert publisher.pub_url.startswith("tcp://0.0.0.0:")
    with pytest.raises(ConfigError, match=r"curve_secret and publish\.curve_clients.*allow_remote"):
        Publisher("tcp://0.0.0.0:*", ANY, make_status())


def test_the_subscriber_of_the_package(publisher: Publisher, folder: Path) -> None:
    """`Subscriber` reads an encrypted publisher with the keys from the files."""
    publisher.publish(make_event(1))
    ada = read_secret(folder / "ada.secret")
    with Subscriber(
        publisher.pub_url,
        publisher.reply_url,
        server_key=read_public(folder / "bench.public"),
        public_key=ada.public,
        secret_key=ada.secret,
    ) as subscriber:
        synced = next(item for item in subscriber if isinstance(item, Synced))
    assert [event.seq for event in synced.open_episodes] == [1]
    assert publisher.counts().refused == 0
