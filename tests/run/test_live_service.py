"""The command on one end of a cable, with traffic sent in real time on the other."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from ecustream.decode.packets import PacketDecoder
from ecustream.ledger import Ledger
from ecustream.traffic import Frame
from tests.namespaces import cable, ip, needs_network, sender, wait_for
from tests.run.test_live_lanes import frames_of

pytestmark = needs_network


@pytest.fixture(scope="module", autouse=True)
def network() -> Iterator[str]:
    """A cable with the ends `a0` and `b0`."""
    with cable("service") as name:
        ip("link set lo up")
        yield name


@pytest.fixture(scope="module")
def traffic(clean_trace: Path) -> list[Frame]:
    """The frames of a trace, read before anything listens: a bus that is silent for long is told."""
    return frames_of(clean_trace)


class Service:
    """`ecustream run --interface b0`, ready to capture."""

    def __init__(self, bundle: Path, folder: Path, *options: str, notify: Path | None = None) -> None:
        self.events = folder / "events.jsonl"
        self._errors = (folder / "errors.txt").open("w+")
        command = [sys.executable, "-m", "ecustream", "run", "--interface", "b0", "--source", "ETH1"]
        command += ["--model", str(bundle), "--events", str(self.events), *options]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | {"NOTIFY_SOCKET": str(notify)} if notify else None,
        )
        wait_for(lambda: promiscuous() or self.process.poll() is not None, 60)
        # The ring is there before the model is; frames are taken from when that is loaded.
        wait_for(lambda: captures() or self.process.poll() is not None, 60)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """End it; its exit code and what it has said."""
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=60)
        self._errors.seek(0)
        return self.process.returncode, out, self._errors.read()


def promiscuous() -> bool:
    """Whether somebody has a ring on b0."""
    return "promiscuity 1" in subprocess.check_output(["ip", "-d", "link", "show", "b0"], text=True)


def captures() -> bool:
    """Whether a packet socket of this namespace is bound to all protocols."""
    rows = Path("/proc/thread-self/net/packet").read_text().splitlines()[1:]
    return any(row.split()[3] == "0003" for row in rows)


def send_in_time(frames: list[Frame], seconds: float) -> int:
    """Send the first seconds of these frames as they happened; how many."""
    start_ns, first_ns = time.monotonic_ns(), frames[0].time_ns
    frames = [frame for frame in frames if frame.time_ns - first_ns < seconds * 1e9]
    with sender("a0") as wire:
        for frame in frames:
            due_ns = start_ns + frame.time_ns - first_ns
            while (left_ns := due_ns - time.monotonic_ns()) > 0:
                time.sleep(left_ns / 1e9)
            wire.send(frame.data)
    return len(frames)


def test_finds_a_dead_bus_and_balances(traffic: list[Frame], bundle_path: Path, tmp_path: Path) -> None:
    """Real time traffic is scored as it comes; when it stops, that is told at once; SIGTERM ends with 0."""
    service = Service(bundle_path, tmp_path, "--no-publish")
    sent = send_in_time(traffic, 4)
    stopped_ns = time.time_ns()
    wait_for(lambda: "all of ETH1" in service.events.read_text())
    code, out, errors = service.stop()
    assert code == 0, errors
    assert "the ledger balances" in out
    assert "captured on b0" in out.splitlines()
    frames = next(line for line in out.splitlines() if line.startswith("frames"))
    lines = next(line for line in out.splitlines() if line.startswith("lines"))
    assert int(frames.split()[1].replace(",", "")) <= sent
    assert "decoded" in frames
    assert "kernel_dropped" not in frames
    assert "scored" in lines
    assert "interrupted" not in out
    events = [json.loads(line) for line in service.events.read_text().splitlines()]
    silence = next(
        event for event in events if event["kind"] == "silence" and "all of ETH1" in str(event["pdus"])
    )
    assert silence["published_ns"] >= silence["decided_ns"] > stopped_ns - 10**9
    assert silence["source"] == "ETH1"


def test_an_outage_is_a_gap_and_a_state(traffic: list[Frame], bundle_path: Path, tmp_path: Path) -> None:
    """The interface goes down: status says so at once; it is back: one capture_gap with its duration."""
    pub = f"ipc://{tmp_path}/pub"
    reply = f"ipc://{tmp_path}/reply"
    service = Service(bundle_path, tmp_path, "--pub", pub, "--reply", reply)
    context = zmq.Context()
    stream = context.socket(zmq.SUB)
    stream.rcvtimeo = 20_000
    stream.subscribe(b"status/")
    stream.connect(pub)
    topic, body = stream.recv_multipart()
    assert topic == b"status/ETH1/"
    send_in_time(traffic, 2)
    ip("link set b0 down")
    while (status := json.loads(body))["state"] != "degraded":
        _, body = stream.recv_multipart()
    assert status["reason"] == "interface b0 is down"
    ip("link set b0 up")
    while json.loads(body)["state"] != "running":
        _, body = stream.recv_multipart()
    context.destroy(linger=0)
    code, _, errors = service.stop(signal.SIGINT)
    assert code == 0, errors
    events = [json.loads(line) for line in service.events.read_text().splitlines()]
    gaps = [event for event in events if event["kind"] == "capture_gap" and event["phase"] == "open"]
    assert [gap["reason"].split(" for ")[0] for gap in gaps] == ["interface b0 was down"]
    begun, *records = [json.loads(line) for line in errors.splitlines()]
    assert (begun["level"], begun["event"].split(" with ")[0]) == ("info", "capturing on b0 as ETH1")
    assert [(record["level"], record["event"].split(" for ")[0]) for record in records] == [
        ("warning", "interface b0 is down; capture goes on when it is back"),
        ("warning", "interface b0 was down"),
    ]


def test_a_reload_loses_nothing(traffic: list[Frame], bundle_path: Path, tmp_path: Path) -> None:
    """SIGHUP under traffic: the bundle that is there now takes over, a damaged one does not."""
    bundle = tmp_path / "bundle"
    shutil.copytree(bundle_path, bundle)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        service = Service(bundle, tmp_path, "--no-publish", notify=tmp_path / "notify")
        wait_until_told(manager, b"READY=1")

        def reload_twice() -> None:
            time.sleep(1)
            service.process.send_signal(signal.SIGHUP)
            wait_until_told(manager, b"RELOADING=1")
            wait_until_told(manager, b"READY=1")
            (bundle / "model.safetensors").write_bytes(b"nothing")
            service.process.send_signal(signal.SIGHUP)
            wait_until_told(manager, b"RELOADING=1")
            wait_until_told(manager, b"READY=1")

        reloads = threading.Thread(target=reload_twice)
        reloads.start()
        sent = send_in_time(traffic, 5)
        reloads.join()
        code, out, errors = service.stop()
        wait_until_told(manager, b"STOPPING=1")
    assert code == 0, errors
    _, first, second = [json.loads(line) for line in errors.splitlines()]
    assert (first["level"], first["event"]) == ("info", f"{bundle}: the bundle was replaced")
    assert second["level"] == "error"
    assert second["event"].startswith(f"the bundle was not replaced: {bundle}: model.safetensors")
    assert second["event"].endswith("; the one before stays")
    ledger = Ledger()
    list(PacketDecoder(ledger).decode(traffic[:sent]))
    # What is no UDP does not get into the ring.
    decoded = ledger.ends["frames"]["decoded"]
    assert next(line for line in out.splitlines() if line.startswith("frames")).split() == [
        *("frames", f"{decoded:,}", "=", f"{decoded:,}", "decoded")
    ]
    assert "overwritten" not in out
    assert "the ledger balances" in out
    events = [json.loads(line) for line in service.events.read_text().splitlines()]
    assert [event for event in events if event["kind"] == "capture_gap"] == []


def wait_until_told(manager: socket.socket, words: bytes) -> None:
    """Read what systemd is told up to a message with these words."""
    while words not in manager.recv(4096):
        pass
