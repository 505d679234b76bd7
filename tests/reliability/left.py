"""What a run leaves behind: its event log and the ledger that it printed."""

import itertools
import json
import re
from pathlib import Path

__all__ = ["books_in", "printed_ledger", "sequence_of"]


def sequence_of(path: Path, *, killed: bool = False) -> list[int] | None:
    """`seq` of each event in an event log; None where it has anything but whole lines of rising numbers.

    Args:
        path: the log.
        killed: its end may be half a line, which is left out: the kernel ends a write between two pages
            when its process is killed.
    """
    data = path.read_bytes()
    if killed:
        data = data[: data.rfind(b"\n") + 1]
    try:
        seqs = [json.loads(line)["seq"] for line in data.splitlines()]
    except ValueError:
        return None
    whole = not data or data.endswith(b"\n")
    return seqs if whole and all(a < b for a, b in itertools.pairwise(seqs)) else None


def printed_ledger(out: str) -> dict[str, dict[str, int]]:
    """The books on standard output, as `Ledger.as_dict` has them.

    Raises:
        ValueError: it does not say that the ledger balances, or the sums are others.
    """
    books = books_in(out)
    for book, counts in books.items():
        if sum(counts.values()) != 2 * counts["entered"]:
            raise ValueError(f"{book}: what came in and what became of it is {counts}")
    if len(books) < 4 or "the ledger balances" not in out:
        raise ValueError(f"there is no ledger that balances in {out[-200:]!r}")
    return books


def books_in(out: str) -> dict[str, dict[str, int]]:
    """The ledger in what a run has printed, as `Ledger.sentences` writes it, whether it balances or not."""
    books: dict[str, dict[str, int]] = {}
    row = re.compile(r"^(frames|pdus|lines|events) +([\d,]+) = (.*)$", re.MULTILINE)
    for book, entered, ends in row.findall(out):
        counts = re.findall(r"([\d,]+) ([^\s+]+)", ends)
        books[book] = {"entered": _number(entered), **{end: _number(count) for count, end in counts}}
    return books


def _number(text: str) -> int:
    return int(text.replace(",", ""))
