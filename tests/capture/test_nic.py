"""What is known of interfaces, against what was done to them."""

import socket
from collections.abc import Iterator

import pytest

from ecustream.capture.nic import index_of, is_up, name_of, names
from tests.namespaces import cable, ip, needs_network

pytestmark = needs_network


@pytest.fixture(scope="module", autouse=True)
def network() -> Iterator[str]:
    """A cable with the ends `a0` and `b0`."""
    with cable("nic") as name:
        yield name


def test_names_and_indices() -> None:
    """Each leads to the other; what is not there leads to nothing."""
    index = index_of("b0")
    assert index == socket.if_nametoindex("b0")
    assert name_of(index) == "b0"
    assert index_of("b7") is None
    assert name_of(987_654) is None
    assert {"lo", "a0", "b0"} <= set(names())


def test_up_and_down() -> None:
    """Switched on, with a cable or without one."""
    assert is_up("b0")
    ip("link set a0 down")
    assert is_up("b0")
    ip("link set b0 down")
    assert not is_up("b0")
    assert not is_up("b7")
