"""A network namespace with the two ends of a cable, for tests of live capture; needs root."""

import ctypes
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CLONE_NEWNET = 0x40000000

needs_network = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None or not Path("/proc/self/ns/net").exists(),
    reason="needs root, Linux and the command ip, for a network namespace of its own",
)


def ip(arguments: str) -> None:
    """Run the command ip in the namespace of this thread."""
    subprocess.run(["ip", *arguments.split()], check=True, capture_output=True)


@contextmanager
def cable(tag: str) -> Iterator[str]:
    """The name of a namespace with `a0` and `b0`, the ends of a cable; this thread is in it."""
    name = f"ecustream-{tag}-{os.getpid()}"
    try:
        ip(f"netns add {name}")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.decode().strip()}")
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net") as home, open(f"/run/netns/{name}") as namespace:
        try:
            assert libc.setns(namespace.fileno(), CLONE_NEWNET) == 0
            lay_cable()
            yield name
        finally:
            assert libc.setns(home.fileno(), CLONE_NEWNET) == 0
            ip(f"netns del {name}")


def lay_cable() -> None:
    """Make both ends and wait until they have a link; no address, so that the kernel sends nothing itself."""
    ip("link add a0 type veth peer name b0")
    for end in ("a0", "b0"):
        Path(f"/proc/sys/net/ipv6/conf/{end}/disable_ipv6").write_text("1")
        ip(f"link set {end} up")
    wait_for_link("a0", "b0")


def wait_for_link(near: str, far: str) -> None:
    """Wait until what one end sends comes out at the other; what is sent is no frame of any protocol."""
    # A frame that arrives is the proof: the link's state is told by another kernel thread.
    with sender(near) as wire, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as other:
        other.bind((far, 3))
        other.settimeout(0.02)
        for _ in range(150):
            wire.send(bytes(60))
            try:
                other.recv(100)
            except TimeoutError:
                continue
            return
    pytest.fail("the cable carries nothing after 3 s")


def sender(interface: str) -> socket.socket:
    """A socket that sends whole frames and receives none."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    wire.bind((interface, 0))
    return wire


def wait_for(condition: object, seconds: float = 10.0) -> None:
    """Wait until a callable gives something true."""
    assert callable(condition)
    end_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.005)
