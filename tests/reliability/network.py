"""A cable between two ends in a namespace of its own, as the rows need it, outside pytest as well."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests import namespaces
from tests.reliability.row import Skipped

__all__ = ["cores", "own_cable"]


@contextmanager
def own_cable(tag: str) -> Iterator[str]:
    """As `tests.namespaces.cable`: `a0` and `b0`, the ends of a cable; this thread is in its namespace.

    Processes and threads that are started within it are in that namespace, too.

    Raises:
        Skipped: this machine or this user cannot make a namespace.
        RuntimeError: its cable carries nothing.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None:
        raise Skipped("a network namespace needs root and the command ip")
    try:
        with namespaces.cable(tag) as name:
            namespaces.ip("link set lo up")
            yield name
    except pytest.skip.Exception as why:
        raise Skipped(str(why)) from None
    except pytest.fail.Exception as why:
        raise RuntimeError(str(why)) from None


def cores() -> tuple[int, int]:
    """Two cores that this process may use: one for what is measured, one for what sends.

    Raises:
        Skipped: there is one only.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise Skipped("a sender and what it sends to need a core each")
    return allowed[0], allowed[1]
