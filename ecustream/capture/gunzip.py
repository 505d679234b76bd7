"""Unzips gzip piece by piece, up to the very byte where it is damaged."""

import zlib
from collections.abc import Iterable, Iterator

__all__ = ["GZIP_MAGIC", "GzipDamageError", "gunzip"]

GZIP_MAGIC = b"\x1f\x8b"
GZIP_WBITS = 31
MAX_OUT = 1 << 20
"""Bytes handed out at a time, which bounds what a gzip bomb can take."""


class GzipDamageError(Exception):
    """The gzip stream is damaged or ends early; carries a ledger reason and a clause for the user."""

    def __init__(self, reason: str, clause: str) -> None:
        super().__init__(clause)
        self.reason = reason
        self.clause = clause


def gunzip(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Unzip a gzip file of one or several members (RFC 1952); zero padding after a member is skipped.

    Args:
        pieces: the compressed file, in order, in non-empty pieces of moderate size.

    Yields:
        Non-empty pieces of at most `MAX_OUT` bytes.

    Raises:
        GzipDamageError: after everything before the damage was yielded.
    """
    member = zlib.decompressobj(GZIP_WBITS)
    between_members = False
    position = 0
    for piece in pieces:
        position += len(piece)
        pending = piece
        while pending or member.unconsumed_tail:
            if between_members:
                pending = pending.lstrip(b"\0")
                if not pending:
                    break
                member = zlib.decompressobj(GZIP_WBITS)
                between_members = False
            before = member.copy()
            try:
                out = member.decompress(pending, MAX_OUT)
            except zlib.error as error:
                good, used = _until_damage(before, pending)
                if good:
                    yield good
                raise GzipDamageError(
                    "corrupt_gzip",
                    f"gzip is corrupt at byte {position - len(pending) + used} on disk ({error})",
                ) from error
            if out:
                yield out
            between_members = member.eof
            pending = member.unused_data if member.eof else member.unconsumed_tail
    if not between_members:
        raise GzipDamageError("truncated_gzip", f"gzip ends early at byte {position} on disk")


def _until_damage(member: "zlib._Decompress", pending: bytes) -> tuple[bytes, int]:
    """What a piece that fails as a whole gives byte by byte, and how many bytes of it were good."""
    out = []
    for used in range(len(pending)):
        try:
            out.append(member.decompress(pending[used : used + 1]))
        except zlib.error:
            return b"".join(out), used
    return b"".join(out), len(pending)
