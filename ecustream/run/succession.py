"""The model in force: how another one takes its place, and what is done when it is lost."""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from ecustream.errors import BundleError, ConfigError, EcustreamError
from ecustream.run.model import Model
from ecustream.scores import ScoreBlock
from ecustream.scoring.manifest import BundleFiles, BundleInfo
from ecustream.traffic import Line

if TYPE_CHECKING:
    from ecustream.logs import Level
    from ecustream.scoring.scorer import ScoredStream

__all__ = ["Succession", "refuse_other_lines"]

_RETRY_NS = 60_000_000_000
_LEAST_LINES = 500
_HEADROOM = 1.2
"""A model must score so many times what comes, or it would never catch up after a stall."""

Load = Callable[[BundleFiles | None, str | None], Model]
"""Loads the bundle that lies on the disk now, or these files, for a device, or the configured one."""


class Succession:
    """Scores with the model in force, and has its successors loaded in a thread beside it.

    A reload puts the bundle in its place that lies on the disk now. A model that is lost (its GPU is gone,
    or memory is short) is loaded again on the CPU, if that keeps up with what comes; until then and else
    there is none, and it is tried again every minute, also where one was lost again within the minute.

    Args:
        model: the first one.
        load: makes another; called in a thread of its own.
        say: is told sentences, with the level at which to log them.

    Attributes:
        model: the one in force; None while there is none.
        trouble: what is wrong with it, as a clause; None where all is well.
        why: why the last model was lost; empty where none was.
        reloading: whether a reload was asked for that has not ended.
    """

    def __init__(self, model: Model, load: Load, say: Callable[["Level", str], None]) -> None:
        self.model: Model | None = model
        self.trouble: str | None = None
        self.reloading = False
        self._files = model.files
        self._device = model.device
        self._load = load
        self._say = say
        self._loading: _Loading | None = None
        self._asked = False
        self._now_ns = self._retry_ns = 0
        self._spare_until_ns = 0
        self.why = ""

    def reload(self) -> None:
        """Ask for the bundle on the disk; a signal handler may call it."""
        self._asked = self.reloading = True

    def score(self, batch: Sequence[tuple["ScoredStream", Sequence[Line]]]) -> list[ScoreBlock] | None:
        """As `Scorer.score`; None where there is no model, or none any more."""
        if self.model is None:
            return None
        try:
            return self.model.scorer.score(batch)
        except (RuntimeError, MemoryError) as error:
            self._lose(error)
            return None

    def look(self, now_ns: int, recent: Callable[[], list[list[Line]]]) -> Model | None:
        """Begin or end what is due; to be called now and then by the thread that scores.

        Args:
            now_ns: a clock that does not run backwards.
            recent: gives the last lines of each lane.

        Returns:
            The model that is in force from now on, where that is another one.
        """
        self._now_ns = now_ns
        if self._loading is not None:
            return self._finish(self._loading, now_ns) if self._loading.ended else None
        if self._asked:
            self._asked = False
            self._begin(lambda: self._load(None, None), "reload")
        elif self.model is None and now_ns >= self._retry_ns:
            lines, files = recent(), self._files
            # At once a lost GPU is lost; later it may have memory again.
            again = bool(self._retry_ns)
            self._begin(lambda: self._replacement(files, lines, again), "replacement")
        return None

    def _begin(self, load: Callable[[], Model], purpose: Literal["reload", "replacement"]) -> None:
        self._loading = _Loading(load, purpose)

    def _finish(self, loading: "_Loading", now_ns: int) -> Model | None:
        self._loading = None
        if loading.purpose == "reload":
            self.reloading = self._asked
        model = loading.model
        if model is None:
            if loading.purpose == "reload":
                stays = "; the one before stays" if self.model is not None else ""
                self._say("error", f"the bundle was not replaced: {loading.problem}{stays}")
            else:
                self._retry_ns = now_ns + _RETRY_NS
                self.trouble = f"{self.why}; {loading.problem}; {_WITHOUT}"
            return None
        self.model, self._files = model, model.files
        fallen_back = model.device != self._device
        self.trouble = f"{self.why}; scored on {model.device} since then" if fallen_back else None
        if loading.purpose == "reload":
            self._say("info", f"{model.files.path}: the bundle was replaced")
        else:
            self._spare_until_ns = now_ns + _RETRY_NS
            self._say("warning" if fallen_back else "info", f"lines are scored again, on {model.device}")
        return model

    def _lose(self, error: BaseException) -> None:
        assert self.model is not None
        said = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        self.why = f"the model on {self.model.device} was lost ({said})"
        self.trouble = f"{self.why}; {_WITHOUT}"
        self.model = None
        # What is lost as soon as it is there would be loaded without end.
        self._retry_ns = self._spare_until_ns if self._now_ns < self._spare_until_ns else 0
        self._say("error", self.trouble)

    def _replacement(self, files: BundleFiles, recent: Sequence[Sequence[Line]], again: bool) -> Model:
        """Another model of the same bundle: on the configured device, or on the CPU if that keeps up."""
        problems = []
        if again or self._device == "cpu":
            try:
                return self._load(files, None)
            except (EcustreamError, RuntimeError, MemoryError) as error:
                problems.append(str(error))
        if self._device != "cpu":
            model = self._load(files, "cpu")
            needed = sum(_rate(lines) for lines in recent)
            longest = max(recent, key=len, default=[])
            reached = model.lines_per_s(longest) if len(longest) >= _LEAST_LINES else float("inf")
            if reached >= _HEADROOM * needed:
                return model
            problems.append(f"the CPU scores {reached:,.0f} lines/s, and {needed:,.0f} come")
        raise ConfigError("; ".join(problems))


_WITHOUT = "deadlines and intervals are still watched, without a model"


class _Loading:
    """A model that is being loaded in a thread."""

    def __init__(self, load: Callable[[], Model], purpose: Literal["reload", "replacement"]) -> None:
        self.purpose = purpose
        self.model: Model | None = None
        self.problem = ""
        self._load = load
        self._thread = threading.Thread(target=self._run, name=purpose, daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.model = self._load()
        except Exception as error:  # the thread's root: whatever is wrong with it, the old one stays
            self.problem = str(error) or type(error).__name__


def _rate(lines: Sequence[Line]) -> float:
    """Lines a second of capture time; 0 where these are too few to tell."""
    span_ns = lines[-1].time_ns - lines[0].time_ns if len(lines) >= _LEAST_LINES else 0
    return len(lines) / (span_ns / 1e9) if span_ns > 0 else 0.0


def refuse_other_lines(files: BundleFiles, info: BundleInfo, *, names_given: bool) -> None:
    """Refuse a bundle that was trained on lines that are made in another way than those of this run.

    Args:
        files: of the bundle.
        info: of the bundle that the run began with.
        names_given: whether the configuration names the PDUs, instead of the bundle.

    Raises:
        BundleError: see above.
    """
    if files.info.key != info.key:
        raise BundleError(
            f"{files.path}: was trained with input.key = {files.info.key!r}, this run has {info.key!r}"
        )
    if not names_given and files.info.names != info.names:
        raise BundleError(
            f"{files.path}: has other PDU names than this run began with; restart to change them"
        )
