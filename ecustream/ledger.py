"""Counts every frame, PDU, line and event exactly once, so that the books can be balanced."""

from collections import Counter
from collections.abc import Iterable, Mapping

__all__ = ["BOOKS", "Ledger"]

BOOKS = ("frames", "pdus", "lines", "events")


class Ledger:
    """One book per kind of thing: what came in, and in which class each of them ended.

    The stage that receives a thing calls `enter`, the stage where it ends calls `end`; the two are
    counted at different places, so `balanced` is a real check and not an identity. An end is a class,
    optionally with a reason: `decoded`, `unreadable{truncated_ip}`, `overwritten{backlog}`.

    Ends used by ecustream:
        frames: `decoded`, `filtered{reason}`, `unreadable{reason}`, `kernel_dropped`
        pdus: `lines`, `filtered{reason}`, `unreadable{reason}`
        lines: `scored`, `unscored{reason}`, `overwritten{reason}`
        events: `published`, `dropped{reason}`

    Notes are counts of circumstances that are not ends (time running backwards, for instance).
    """

    def __init__(self) -> None:
        self.entered: dict[str, int] = dict.fromkeys(BOOKS, 0)
        self.ends: dict[str, Counter[str]] = {book: Counter() for book in BOOKS}
        self.notes: Counter[str] = Counter()

    def enter(self, book: str, count: int = 1) -> None:
        """Count `count` things that came in."""
        self.entered[book] += count

    def end(self, book: str, end: str, count: int = 1, *, reason: str | None = None) -> None:
        """Count `count` things that ended as `end`, for `reason` where one is given."""
        self.ends[book][f"{end}{{{reason}}}" if reason else end] += count

    def note(self, what: str, count: int = 1) -> None:
        """Count a circumstance that is worth telling and is not an end."""
        self.notes[what] += count

    def ended(self, book: str, end: str) -> int:
        """How many things ended as `end`, over all its reasons."""
        return sum(n for key, n in self.ends[book].items() if key.split("{", 1)[0] == end)

    def open(self, book: str) -> int:
        """How many things of `book` came in and have not ended yet."""
        return self.entered[book] - self.ends[book].total()

    def balanced(self, books: Iterable[str] = BOOKS) -> bool:
        """Whether everything that came in has ended."""
        return all(self.open(book) == 0 for book in books)

    def as_dict(self) -> dict[str, Mapping[str, int]]:
        """Every book as `{end: count}` with the key `entered`, and the notes; for status and logs."""
        books: dict[str, Mapping[str, int]] = {
            book: {"entered": self.entered[book], **dict(sorted(self.ends[book].items()))} for book in BOOKS
        }
        if self.notes:
            books["notes"] = dict(sorted(self.notes.items()))
        return books

    def sentences(self) -> list[str]:
        """One printable line a book, such as `frames  1200 = 1190 decoded + 10 filtered{not_udp}`."""
        out = []
        for book in BOOKS:
            ends = [f"{n:,} {key}" for key, n in sorted(self.ends[book].items(), key=lambda kv: -kv[1]) if n]
            if self.open(book):
                ends.append(f"{self.open(book):,} UNACCOUNTED")
            out.append(f"{book:<7}{self.entered[book]:>12,} = {' + '.join(ends) or '0'}")
        if self.notes:
            out.append("notes  " + ", ".join(f"{key} {n:,}" for key, n in sorted(self.notes.items())))
        return out
