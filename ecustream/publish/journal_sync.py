"""Brings what was written to the disk itself, in a thread of its own, because that may take long."""

import os
import threading

__all__ = ["DiskSync"]

INTERVAL_S = 1.0


class DiskSync:
    """Calls fsync on files that were written, at most once a second, and on those that are finished.

    `problem` says why the last attempt failed; what was written since may then not survive a power cut.
    """

    def __init__(self) -> None:
        self.problem: str | None = None
        self.failures = 0
        self._written: set[int] = set()
        self._finished: list[int] = []
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)
        self._thread.start()

    def written(self, descriptor: int) -> None:
        """The file has new data; the caller keeps the descriptor open until it hands it to `finished`."""
        with self._changed:
            self._written.add(descriptor)
            self._changed.notify()

    def finished(self, descriptor: int) -> None:
        """The file gets no more data; its descriptor is closed here."""
        with self._changed:
            self._written.discard(descriptor)
            self._finished.append(descriptor)
            self._changed.notify()

    def close(self) -> None:
        """Waits until everything is on the disk."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._written or self._finished or self._closing)
                # Finished descriptors may be closed here only, so those in hand stay valid meanwhile.
                written, self._written = self._written, set()
                finished, self._finished = self._finished, []
                last = self._closing
            for descriptor in (*written, *finished):
                self._sync(descriptor)
            for descriptor in finished:
                os.close(descriptor)
            with self._changed:
                if last and not self._written and not self._finished:
                    return
                self._changed.wait_for(lambda: self._closing, INTERVAL_S)

    def _sync(self, descriptor: int) -> None:
        try:
            os.fsync(descriptor)
            self.problem = None
        except OSError as error:
            self.problem = f"fsync: {error.strerror}"
            self.failures += 1
