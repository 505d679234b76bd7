"""Thins out score batches for the eye: few messages, few lines, every peak."""

from msgspec import UnsetType

from ecustream.publish.messages import ScoreBatch

__all__ = ["ScoreThrottle"]

_Key = tuple[str, str | UnsetType]


class ScoreThrottle:
    """Merges the score batches of each source into at most one message per `interval_ns`.

    The traces of a source take turns, since a message has lines of one trace only.

    A message has at most `max_lines` lines. Where there were more, they are cut into equal stretches and
    of each stretch the line with the highest perplexity and the one with the highest surprisal stay. A
    line that was scored while warming stays only where its stretch has no other.

    Time is given, in nanoseconds of any clock that does not run backwards.
    """

    def __init__(self, interval_ns: int = 50_000_000, max_lines: int = 256) -> None:
        if max_lines < 2:
            raise ValueError("max_lines must be at least 2")
        self.interval_ns = interval_ns
        self.max_lines = max_lines
        self._waiting: dict[_Key, ScoreBatch] = {}
        self._sent_ns: dict[str, int] = {}

    def add(self, batch: ScoreBatch) -> None:
        """Takes over the lines of a batch; the batch itself is not kept."""
        key = batch.source, batch.trace
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = _pick(batch, range(len(batch.times_ns)))
            return
        waiting.times_ns += batch.times_ns
        waiting.pdus += batch.pdus
        waiting.perplexity += batch.perplexity
        waiting.surprisal += batch.surprisal
        waiting.warming += batch.warming
        # Bounds memory where nobody asks for what is ready.
        if len(waiting.times_ns) > 64 * self.max_lines:
            self._waiting[key] = thin(waiting, self.max_lines)

    def ready(self, now_ns: int) -> list[ScoreBatch]:
        """The messages that may be sent now; the caller sends them."""
        # What has waited longest stands first, and only that of each source has its turn.
        due: dict[str, _Key] = {}
        for key in self._waiting:
            if self._due_ns(key) <= now_ns:
                due.setdefault(key[0], key)
        self._sent_ns |= dict.fromkeys(due, now_ns)
        return [thin(self._waiting.pop(key), self.max_lines) for key in due.values()]

    def next_due_ns(self) -> int | None:
        """When `ready` will next have something, or None while nothing waits."""
        return min(map(self._due_ns, self._waiting), default=None)

    def flush(self) -> list[ScoreBatch]:
        """Everything that waits, whether due or not; for the end of a run."""
        waiting = [thin(batch, self.max_lines) for batch in self._waiting.values()]
        self._waiting.clear()
        return waiting

    def _due_ns(self, key: _Key) -> int:
        sent_ns = self._sent_ns.get(key[0])
        return 0 if sent_ns is None else sent_ns + self.interval_ns


def thin(batch: ScoreBatch, max_lines: int) -> ScoreBatch:
    """`batch` with at most `max_lines` of its lines, peaks kept."""
    count = len(batch.times_ns)
    if count <= max_lines:
        return batch
    by_perplexity = _rank(batch.perplexity, batch.warming)
    by_surprisal = _rank(batch.surprisal, batch.warming)
    stretches = max_lines // 2
    keep: set[int] = set()
    for i in range(stretches):
        stretch = range(i * count // stretches, (i + 1) * count // stretches)
        keep.add(max(stretch, key=by_perplexity.__getitem__))
        keep.add(max(stretch, key=by_surprisal.__getitem__))
    return _pick(batch, sorted(keep))


def _rank(values: list[float], warming: list[bool]) -> list[float]:
    """Keys that order by value, with every warming line below every other; values are not negative."""
    return [-1.0 / (1.0 + v) if warm else v for v, warm in zip(values, warming, strict=True)]


def _pick(batch: ScoreBatch, rows: list[int] | range) -> ScoreBatch:
    return ScoreBatch(
        run=batch.run,
        source=batch.source,
        times_ns=[batch.times_ns[i] for i in rows],
        pdus=[batch.pdus[i] for i in rows],
        perplexity=[batch.perplexity[i] for i in rows],
        surprisal=[batch.surprisal[i] for i in rows],
        warming=[batch.warming[i] for i in rows],
        trace=batch.trace,
    )
