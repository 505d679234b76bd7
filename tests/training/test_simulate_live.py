"""Frames go out on a real interface, in order, at their times, and the report says how late they were."""

import ctypes
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecustream.errors import ConfigError, InputError, OutputError
from training.simulate import live, slice_process
from training.simulate.live import Lateness, send_live
from training.simulate.slice_process import LiveSlice

FRAMES = 200
SLICE_NS = 100_000_000
SOURCE_MAC = bytes.fromhex("02aabbccdd01")
MULTICAST_MAC = bytes.fromhex("3333000000ff")
VLAN_TAG = struct.pack(">HH", 0x8100, 0x6003)
CLONE_NEWNET = 0x40000000
SOL_PACKET, PACKET_AUXDATA, VLAN_VALID = 263, 8, 16


def frame(number: int) -> bytes:
    """A frame of its own length; two of three have a VLAN tag."""
    tag = VLAN_TAG if number % 3 else b""
    return MULTICAST_MAC + SOURCE_MAC + tag + struct.pack(">HI", 0x88B5, number) + bytes(60 + number % 50)


def piece(start_ns: int, offsets_ns: list[int], first: int = 0, until_ns: int = SLICE_NS) -> LiveSlice:
    """Frames `first` and following at times from the start; there is room around each of them."""
    frames = [frame(first + i) for i in range(len(offsets_ns))]
    buffer = b"".join(b"\xee" * 7 + content + b"\xdd" * 5 for content in frames)
    length = np.array([len(content) for content in frames], np.int64)
    start = np.cumsum(length + 12) - length - 5
    time_ns = start_ns + np.array(offsets_ns, np.int64)
    return LiveSlice(start_ns + until_ns, time_ns, np.frombuffer(buffer, np.uint8), start, length)


def due_offsets_ns() -> list[int]:
    """Times of `FRAMES` frames in 500 ms, none in the second fifth of them; some share a time."""
    fifths = [i * 5 // FRAMES for i in range(FRAMES)]
    return [i // 4 * 4 * 2_500_000 + (fifth > 0) * SLICE_NS for i, fifth in enumerate(fifths)]


def even_slices(start_ns: int) -> Generator[LiveSlice, None, None]:
    """All frames, in slices of 100 ms; the second slice has none."""
    due_ns = due_offsets_ns()
    for upper_ns in range(SLICE_NS, due_ns[-1] + SLICE_NS, SLICE_NS):
        rows = [i for i, at_ns in enumerate(due_ns) if upper_ns - SLICE_NS <= at_ns < upper_ns]
        yield piece(start_ns, [due_ns[i] for i in rows], rows[0] if rows else 0, upper_ns)


def endless_slices(folder: Path, order: list[str], start_ns: int) -> Generator[LiveSlice, None, None]:
    """A frame each 10 ms for ever; the sixth slice carries out an order. `closed` says that it was closed."""
    (folder / "pid").write_text(str(os.getpid()))
    try:
        for i in range(1_000_000):
            (folder / "made").write_text(str(i + 1))
            if i == 5 and order:
                subprocess.run([word.replace("PARENT", str(os.getppid())) for word in order], check=True)
            offsets_ns = list(range(i * SLICE_NS, (i + 1) * SLICE_NS, 10_000_000))
            yield piece(start_ns, offsets_ns, 0, (i + 1) * SLICE_NS)
    finally:
        (folder / "closed").touch()


def burst(count: int, start_ns: int) -> Generator[LiveSlice, None, None]:
    """Frames which are all due at the start."""
    yield piece(start_ns, [0] * count)


def interrupting_slices(start_ns: int) -> Generator[LiveSlice, None, None]:
    """Ctrl-C before the first slice is ready."""
    os.kill(os.getppid(), signal.SIGINT)
    yield piece(start_ns, [0])


def failing_slices(start_ns: int) -> Generator[LiveSlice, None, None]:
    """One slice, then an error."""
    yield piece(start_ns, [0])
    raise InputError("day.json, line 3: there is no ECU HCP9")


def dying_slices(start_ns: int) -> Generator[LiveSlice, None, None]:
    """One slice, then the process is gone."""
    yield piece(start_ns, [0])
    os._exit(7)


def slow_slices(start_ns: int) -> Generator[LiveSlice, None, None]:
    """One slice, too late."""
    time.sleep(0.6)
    yield piece(start_ns, [0])


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def network() -> Iterator[str]:
    """The name of a network namespace with the two ends `a0` and `b0` of a cable; this thread is in it."""
    name = f"ecustream-{os.getpid()}"
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and the command ip, for a network namespace of its own")
    try:
        ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.decode().strip()}")
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net") as home, open(f"/run/netns/{name}") as namespace:
        try:
            ip("-n", name, "link", "add", "a0", "type", "veth", "peer", "name", "b0")
            ip("-n", name, "link", "set", "a0", "up")
            ip("-n", name, "link", "set", "b0", "up")
            assert libc.setns(namespace.fileno(), CLONE_NEWNET) == 0
            wait_for_link()
            yield name
        finally:
            assert libc.setns(home.fileno(), CLONE_NEWNET) == 0
            ip("netns", "del", name)


def wait_for_link() -> None:
    for _ in range(300):
        try:
            live._open_interface("a0").close()
        except OutputError:
            time.sleep(0.01)
        else:
            return
    pytest.fail("the cable has no link after 3 s")


@pytest.fixture(autouse=True)
def _short_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace starts 0.3 s after its process: small slices are quickly made."""
    monkeypatch.setattr(slice_process, "LEAD_NS", 300_000_000)


class Receiver:
    """The other end of the cable: frames with their VLAN tags, and when the kernel saw them."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        self.socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
        self.socket.bind(("b0", 3))
        self.socket.setblocking(False)

    def __enter__(self) -> "Receiver":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def received(self) -> list[tuple[int, bytes]]:
        """Time, nanoseconds since 1970, and content of each frame of ours that has come until now."""
        rows: list[tuple[int, bytes]] = []
        while True:
            try:
                content, extra, _, _ = self.socket.recvmsg(2048, 256)
            except BlockingIOError:
                return rows
            time_ns = 0
            for level, kind, data in extra:
                if (level, kind) == (socket.SOL_SOCKET, 35):
                    seconds, nanoseconds = struct.unpack("qq", data)
                    time_ns = seconds * 10**9 + nanoseconds
                elif (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
                    status, _, _, _, _, tci, tpid = struct.unpack("IIIHHHH", data)
                    if status & VLAN_VALID:
                        content = content[:12] + struct.pack(">HH", tpid, tci) + content[12:]
            if content[6:12] == SOURCE_MAC:
                rows.append((time_ns, content))


def test_frames_arrive(network: str) -> None:
    """Every frame arrives byte for byte, tag included, not before its time; the report says how late."""
    with Receiver() as receiver:
        report = send_live("a0", even_slices)
        received = receiver.received()
    assert [content for _, content in received] == [frame(i) for i in range(FRAMES)]
    assert (report.sent, report.stopped) == (FRAMES, False)
    seen_ns = np.array([time_ns for time_ns, _ in received])
    late_us = (seen_ns - report.start_ns - np.array(due_offsets_ns())) / 1_000
    assert late_us.min() > -50
    assert abs(np.median(late_us) - report.p50_us) < 2_000
    assert abs(late_us.max() - report.max_us) < 20_000
    assert 0 <= report.p50_us <= report.p99_us <= report.p999_us <= report.max_us
    assert (report.late > 0) == (report.max_us >= 1_000)
    assert report.end_ns >= seen_ns[-1] - 1_000_000
    assert f"{FRAMES} frames in " in str(report)


def test_trace_lasts_until_its_end(network: str) -> None:
    """A trace that ends in silence takes its whole time, all but the last 50 ms."""
    report = send_live("a0", partial(burst, 1))
    assert report.end_ns - report.start_ns >= SLICE_NS - live.FETCH_NS


def test_error_of_the_simulation(network: str) -> None:
    """What goes wrong in the other process is raised here, in its own words."""
    with pytest.raises(InputError, match=r"^day.json, line 3: there is no ECU HCP9$"):
        send_live("a0", failing_slices)


def test_end_of_the_other_process(network: str) -> None:
    """The other process's sudden end is an error, and no wait for ever."""
    with pytest.raises(OutputError, match=r"^the process that simulates the traffic died with exit code 7$"):
        send_live("a0", dying_slices)


def test_slow_simulation(network: str) -> None:
    """Traffic that is not ready at the start of its trace is an error, not a burst."""
    with Receiver() as receiver:
        with pytest.raises(OutputError, match=r"not ready within 0.3 s$"):
            send_live("a0", slow_slices)
        assert receiver.received() == []


def test_full_queue(network: str) -> None:
    """Frames that the interface's queue does not take are sent again, and counted."""
    shape = ["qdisc", "add", "dev", "a0", "root", "tbf", "rate", "2mbit", "burst", "2000", "limit", "2000"]
    if subprocess.run(["tc", *shape], capture_output=True, check=False).returncode:
        pytest.skip("this kernel cannot limit an interface's rate")
    try:
        with Receiver() as receiver:
            report = send_live("a0", partial(burst, FRAMES))
            time.sleep(0.1)
            received = receiver.received()
    finally:
        subprocess.run(["tc", "qdisc", "del", "dev", "a0", "root"], check=True)
    assert report.send_errors > 0
    assert [content for _, content in received] == [frame(i) for i in range(FRAMES)]
    assert report.late > 0


def test_few_slices_ahead(network: str, tmp_path: Path) -> None:
    """No more than a few slices are made before they are sent; SIGTERM stops between two frames."""
    with Receiver() as receiver:
        report = send_live("a0", partial(endless_slices, tmp_path, ["kill", "-TERM", "PARENT"]))
        seen_ns = np.array([time_ns for time_ns, _ in receiver.received()])
    assert (seen_ns - report.start_ns - np.arange(report.sent) * 10_000_000).min() > -50_000
    sent = -(-report.sent // 10)
    assert report.stopped
    assert report.sent > 10
    assert sent <= int((tmp_path / "made").read_text()) <= sent + slice_process.SLICES_AHEAD + 2
    assert (tmp_path / "closed").exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


SCRIPT = """
import sys
from functools import partial
from pathlib import Path
from tests.training.test_simulate_live import endless_slices
from training.simulate import live, slice_process

slice_process.LEAD_NS = 300_000_000
if __name__ == "__main__":
    report = live.send_live("a0", partial(endless_slices, Path(sys.argv[1]), []))
    print(report)
    sys.exit(130 if report.stopped else 0)
"""


def test_ctrl_c(network: str, tmp_path: Path) -> None:
    """Ctrl-C in a terminal ends both processes within a second; the report is printed, files are closed."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with (
        Receiver() as receiver,
        subprocess.Popen(
            [sys.executable, str(script), str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            start_new_session=True,
            text=True,
        ) as process,
    ):
        give_up = time.monotonic() + 30
        received: list[tuple[int, bytes]] = []
        while not received and time.monotonic() < give_up:
            time.sleep(0.05)
            received = receiver.received()
        os.killpg(process.pid, signal.SIGINT)
        began = time.monotonic()
        output, errors = process.communicate(timeout=10)
        assert time.monotonic() - began < 1
        received += receiver.received()
    assert process.returncode == 130
    assert errors == ""
    assert output.startswith(f"{len(received)} frames in ")
    assert (tmp_path / "closed").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_ctrl_c_during_the_start(network: str) -> None:
    """A request to stop that comes before the first frame ends it too."""
    report = send_live("a0", interrupting_slices)
    assert (report.stopped, report.sent, report.max_us) == (True, 0, 0)
    assert report.end_ns < report.start_ns


def test_unknown_interface() -> None:
    """An interface that does not exist is one sentence with those that do."""
    with pytest.raises(ConfigError, match=r"^interface eth77 does not exist; there are: .*\blo\b"):
        send_live("eth77", even_slices)


def test_interface_that_is_down(network: str, tmp_path: Path) -> None:
    """An interface that is down is one sentence that says how to mend it, before and while sending."""
    ip("-n", network, "link", "set", "a0", "down")
    try:
        with pytest.raises(OutputError, match=r"^interface a0 is down: `ip link set a0 up`$"):
            send_live("a0", even_slices)
    finally:
        ip("-n", network, "link", "set", "a0", "up")
        wait_for_link()
    try:
        with pytest.raises(OutputError, match=r"^interface a0: cannot send: Network is down$"):
            send_live("a0", partial(endless_slices, tmp_path, ["ip", "link", "set", "a0", "down"]))
    finally:
        ip("-n", network, "link", "set", "a0", "up")
        wait_for_link()


def test_interface_without_link(network: str) -> None:
    """An interface whose other end is down is one sentence: its frames would vanish without an error."""
    ip("-n", network, "link", "set", "b0", "down")
    try:
        with pytest.raises(OutputError, match=r"^interface a0 has no link"):
            send_live("a0", even_slices)
    finally:
        ip("-n", network, "link", "set", "b0", "up")
        wait_for_link()


def test_missing_right() -> None:
    """Without the right to send frames, one sentence names it."""
    code = "from training.simulate.live import send_live; send_live('lo', print)"
    command = [sys.executable, "-c", code]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("needs setpriv, to give up a right of root")
        command = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", *command]
    root = Path(__file__).parents[2]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert run.stderr.splitlines()[-1] == (
        "ecustream.errors.OutputError: interface lo: sending frames needs CAP_NET_RAW (or root)"
    )


def test_other_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the operating system has no raw sockets of this kind, one sentence says so."""
    monkeypatch.delattr(socket, "AF_PACKET")
    with pytest.raises(OutputError, match=r"^sending frames on an interface is possible on Linux only$"):
        send_live("lo", even_slices)


@given(st.lists(st.integers(0, 200_000_000), max_size=200), st.sampled_from([0.5, 0.99, 0.999]))
def test_lateness(late_ns: list[int], share: float) -> None:
    """Quantiles are those of all values in whole microseconds; beyond 100 ms, the largest."""
    lateness = Lateness()
    for value in late_ns:
        lateness.add(value)
    steps = sorted(value // 1_000 for value in late_ns)
    expected = int(np.quantile(steps, share, method="inverted_cdf")) if steps else 0
    assert lateness.quantile_us(share) == (expected if expected < 100_000 else steps[-1])
    assert lateness.max_ns == max(late_ns, default=0)
    assert lateness.count == len(late_ns)
    assert lateness.at_least(1_000) == sum(value >= 1_000_000 for value in late_ns)
