"""The server in a process of its own: who may ask, what is streamed, how it ends."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ecustream.publish.curve import Curve
from ecustream.publish.keys import make_pair
from tests.dashboard.examples import make_event, make_table
from tests.dashboard.servers import Daemon, Dashboard, free_ports

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def idle() -> Iterator[Dashboard]:
    """A dashboard whose daemon is not there."""
    pub, reply = free_ports(2)
    with Dashboard(f"tcp://127.0.0.1:{pub},tcp://127.0.0.1:{reply}") as dashboard:
        yield dashboard


def until(frames: Iterator[Any], daemon: int = 0, **wanted: Any) -> Any:
    """The first entry of a daemon with these values."""
    for frame in frames:
        entry = frame["daemons"][daemon]
        if all(entry.get(name) == value for name, value in wanted.items()):
            return entry
    raise AssertionError("the stream has ended")


class TestRequests:
    @pytest.mark.parametrize(
        "host", ["127.0.0.1:{}", "localhost:{}", "LOCALHOST", "[::1]:{}", "192.168.1.7:{}"]
    )
    def test_own_names(self, idle: Dashboard, host: str) -> None:
        """By an address or as localhost the page is served."""
        assert idle.get("/", host.format(idle.port))[0] == 200

    @pytest.mark.parametrize(
        "host", ["evil.example:{}", "127.0.0.1.evil.example", "localhost.evil.example", "[x]"]
    )
    @pytest.mark.parametrize("path", ["/", "/api/stream", "/api/episode?daemon=0&id=x", "/static/main.js"])
    def test_other_names(self, idle: Dashboard, host: str, path: str) -> None:
        """Under another name nothing is served: somebody has it lead here."""
        status, _, body = idle.get(path, host.format(idle.port))
        assert status == 421
        assert b"ecustream" not in body

    @pytest.mark.parametrize("path", ["/", "/static/main.js", "/nothing", "/api/episode?daemon=0&id=x"])
    def test_headers(self, idle: Dashboard, path: str) -> None:
        """Nothing from elsewhere may be loaded, and no other origin may read."""
        headers = idle.get(path)[1]
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert not [name for name in headers if name.startswith("access-control")]

    @pytest.mark.parametrize(
        "query", ["", "daemon=0", "daemon=9&id=x", "daemon=-1&id=x", "daemon=²&id=x", "id=x"]
    )
    def test_an_unknown_episode(self, idle: Dashboard, query: str) -> None:
        """It is not there, in words."""
        status, _, body = idle.get(f"/api/episode?{query}".replace("²", "%C2%B2"))
        assert (status, body) == (404, b"this episode is not held any more")

    def test_files_outside_are_not_served(self, idle: Dashboard) -> None:
        """A path that climbs out of the folder leads nowhere."""
        assert idle.get("/static/../app.py")[0] == 404
        assert idle.get("/static/%2e%2e/app.py")[0] == 404

    def test_nothing_refers_to_elsewhere(self) -> None:
        """The page works without a network: its files name no other host."""
        import ecustream.dashboard

        for file in (Path(ecustream.dashboard.__file__).parent / "static").iterdir():
            text = file.read_text(encoding="utf-8").replace("http://www.w3.org/", "")
            assert "://" not in text, file.name
            assert "innerHTML" not in text, file.name


class TestStream:
    def test_live(self) -> None:
        """Statuses, events and the table of PDUs come as they are told, and an episode in full when asked."""
        pub, reply = free_ports(2)
        with (
            Daemon(pub, reply) as daemon,
            Dashboard(f"tcp://127.0.0.1:{pub},tcp://127.0.0.1:{reply}") as dashboard,
            dashboard.frames() as frames,
        ):
            assert next(frames)["daemons"][0]["full"]
            daemon.status()
            until(frames, state="ok")
            daemon.event(make_event(1))
            assert until(frames, state="open")["open"] == 1
            daemon.event(make_event(2, phase="close"))
            until(frames, state="ok", seq=2)
            daemon.publisher.publish_pdus(make_table(lines=11))
            tables = (frame["daemons"][0]["pdus"] for frame in frames if "pdus" in frame["daemons"][0])
            assert {
                row["lines"] for row in next(t for t in tables if t["rows"][0]["lines"] == 11)["rows"]
            } == {11}
            status, _, body = dashboard.get("/api/episode?daemon=0&id=run0-0")
            assert status == 200
            assert msgspec.json.decode(body)["wireshark"] == make_event(1).wireshark

    def test_the_same_run_again(self) -> None:
        """A trace that is scored a second time makes the same run; its open episode is shown."""
        pub, reply = free_ports(2)
        watched = f"tcp://127.0.0.1:{pub},tcp://127.0.0.1:{reply}"
        with Dashboard(watched) as dashboard, dashboard.frames() as frames:
            with Daemon(pub, reply) as daemon:
                until(frames, run="run0")
                daemon.event(make_event(1))
                daemon.event(make_event(2, phase="close"))
                daemon.status()
                until(frames, seq=2)
            with Daemon(pub, reply) as daemon:
                daemon.event(make_event(1))
                end = time.monotonic() + 20
                while next(frames)["daemons"][0]["state"] != "open":
                    daemon.status()
                    assert time.monotonic() < end

    def test_encrypted(self, tmp_path: Path) -> None:
        """With the keys from files both sockets of an encrypted daemon are read."""
        for name in ("bench", "ada"):
            make_pair(name, tmp_path)
        pub, reply = free_ports(2)
        keys = ["--server-key", str(tmp_path / "bench.public"), "--key", str(tmp_path / "ada.secret")]
        with (
            Daemon(pub, reply, curve=Curve(tmp_path / "bench.secret", tmp_path / "ada.public")),
            Dashboard(f"tcp://127.0.0.1:{pub},tcp://127.0.0.1:{reply}", options=keys) as dashboard,
            dashboard.frames() as frames,
        ):
            # Only one who is in step with the events takes the table.
            assert any(frame["daemons"][0].get("pdus") for frame in frames)

    def test_messagepack(self) -> None:
        """A daemon that speaks MessagePack is shown as any other, with its table of PDUs."""
        pub, reply = free_ports(2)
        with (
            Daemon(pub, reply, msgpack=True),
            Dashboard(f"tcp://127.0.0.1:{pub},tcp://127.0.0.1:{reply}") as dashboard,
            dashboard.frames() as frames,
        ):
            table = next(pdus for frame in frames if (pdus := frame["daemons"][0].get("pdus")))
            assert [row["name"] for row in table["rows"]] == ["ESC_00", "ESC_01", "NEW_02"]

    def test_a_page_that_does_not_read(self) -> None:
        """It keeps nobody waiting, and is given up without harm."""
        pub, reply = free_ports(2)
        with (
            Daemon(pub, reply) as daemon,
            Dashboard(f"tcp://127.0.0.1:{pub},tcp://127.0.0.1:{reply}") as dashboard,
            socket.create_connection(("127.0.0.1", dashboard.port)) as stuck,
            dashboard.frames() as frames,
        ):
            stuck.sendall(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            daemon.status()
            until(frames, state="ok")
            for i in range(3000):
                daemon.event(make_event(1, i, pdus=8))
            until(frames, open=3000)
            daemon.event(make_event(1, 0, phase="close"))
            until(frames, open=2999)
            assert dashboard.end() == (0, "")


class TestStartAndEnd:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_clean_end_with_a_page_open(self, number: int) -> None:
        """Within seconds, with exit code 0 and nothing on standard error."""
        pub, reply = free_ports(2)
        with (
            Dashboard(f"tcp://127.0.0.1:{pub},tcp://127.0.0.1:{reply}") as dashboard,
            dashboard.frames() as frames,
        ):
            next(frames)
            assert dashboard.end(number) == (0, "")

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--listen", "0.0.0.0:0"], "add --allow-remote"),
            (["--listen", "8050"], "write HOST:PORT"),
            (["--listen", "127.0.0.1:99999"], "write HOST:PORT"),
            (["--listen", "no.such.host.invalid:0"], "no.such.host.invalid"),
            (["--key", "x.secret"], "belong together"),
            (["--connect", "ipc:///tmp/x"], "both addresses as PUB,REPLY"),
            (["--connect", "tcp://127.0.0.1:1,nonsense"], '"nonsense" is no socket address'),
        ],
    )
    def test_addresses_that_cannot_be_used(self, options: list[str], said: str) -> None:
        """One sentence says why, and exit code 2."""
        done = subprocess.run(
            [sys.executable, "-m", "ecustream", "dashboard", "--listen", "127.0.0.1:0", *options],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 2
        assert said in done.stderr
        assert done.stderr.count("\n") == 1

    def test_a_busy_port(self, idle: Dashboard) -> None:
        """One sentence that names the option to change."""
        with pytest.raises(RuntimeError, match=r"in use; choose another with --listen"):
            Dashboard(listen=f"127.0.0.1:{idle.port}")

    def test_remote_where_it_is_meant(self) -> None:
        """Then it listens, and still goes by no foreign name."""
        with Dashboard(listen="0.0.0.0:0", options=["--allow-remote"]) as dashboard:
            assert dashboard.get("/", socket.gethostname())[0] == 200
            assert dashboard.get("/", "evil.example")[0] == 421

    def test_without_the_extra(self) -> None:
        """One sentence says what to install."""
        script = "import sys; sys.modules['starlette'] = None; from ecustream.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", script, "dashboard"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 2
        assert "pip install '.[dashboard]'" in done.stderr
        assert done.stderr.count("\n") == 1
