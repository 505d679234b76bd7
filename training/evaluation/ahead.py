"""Items made on a thread of their own, a few ahead of who takes them."""

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

__all__ = ["ahead"]

Item = TypeVar("Item")

_END = object()
_POLL_S = 0.2


def ahead(items: Iterator[Item], depth: int = 8) -> Iterator[Item]:
    """The same items in the same order; what their maker raises is raised here.

    A model computes outside of Python's lock: while it scores, the lines before can be judged.

    Args:
        items: taken on the thread, and closed there if they are no longer wanted.
        depth: how many may wait.
    """
    waiting: queue.Queue[object] = queue.Queue(depth)
    stop = threading.Event()
    failed: list[BaseException] = []

    def put(item: object) -> None:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            for item in items:
                put(item)
                if stop.is_set():
                    break
        except BaseException as error:
            failed.append(error)
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
            put(_END)

    thread = threading.Thread(target=work, name="ahead", daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not _END:
            yield item  # type: ignore[misc]
        if failed:
            raise failed[0]
    finally:
        stop.set()
        thread.join()
