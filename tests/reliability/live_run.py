"""A run on an interface, in a thread of this process, so that a row can reach into it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from ecustream.config import load_config
from ecustream.events import Event
from ecustream.knowledge import DEMO_BUNDLE
from ecustream.run.outcome import Outcome
from ecustream.service import Run
from tests.namespaces import wait_for
from tests.reliability.vehicle import SOURCE

__all__ = ["LiveRun", "live_run"]


class LiveRun:
    """The run, and what there is of it after its end.

    Attributes:
        said: the sentences that it told, but for those at level `info`.
        outcome: None before the end.
    """

    def __init__(self, events: Path, keys: dict[str, Any]) -> None:
        self.said: list[str] = []
        self.outcome: Outcome | None = None
        self._events = events
        self._error: BaseException | None = None
        settings = load_config(None, {"publish.enabled": False, "input.source": SOURCE, **keys})
        self.run = Run(
            settings,
            [],
            DEMO_BUNDLE,
            interfaces=["b0"],
            events=str(events),
            say=lambda level, sentence: self.said.append(sentence) if level != "info" else None,
        )
        self._thread = threading.Thread(target=self._execute, name="scoring")
        self._thread.start()

    def _execute(self) -> None:
        try:
            self.outcome = self.run.execute()
        except BaseException as error:  # the thread's root: `stop` raises it again
            self._error = error

    def wait_until_captured(self) -> None:
        """Wait until frames are taken."""
        wait_for(lambda: captures() or self._error, 60)
        time.sleep(0.1)

    def stop(self) -> Outcome:
        """End it as SIGTERM does."""
        if self._thread.is_alive():
            self.run.stop()
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self.outcome is not None
        return self.outcome

    def events(self) -> list[Event]:
        """All that was told until now."""
        lines = self._events.read_bytes().splitlines()
        return [msgspec.json.decode(line, type=Event) for line in lines]


@contextmanager
def live_run(folder: Path, **keys: Any) -> Iterator[LiveRun]:
    """A run on `b0` with the shipped bundle, capturing; `keys` are those of the configuration, `_` for `.`.

    The first underscore counts: `ring_lines` is `ring.lines`. It is stopped at the end.
    """
    dotted = {key.replace("_", ".", 1): value for key, value in keys.items()}
    run = LiveRun(folder / "events.jsonl", dotted)
    try:
        run.wait_until_captured()
        yield run
    finally:
        run.stop()


def captures() -> bool:
    """Whether a packet socket in the namespace of this thread is bound to all protocols."""
    rows = Path("/proc/thread-self/net/packet").read_text().splitlines()[1:]
    return any(row.split()[3] == "0003" for row in rows)
