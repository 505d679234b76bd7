"""The identity of a line, which is all of it but its state and its times, as columns of text."""

from urllib.parse import unquote

from ecustream.traffic import Stream

__all__ = ["identity_columns", "plain"]


def identity_columns(stream: Stream) -> tuple[str, ...]:
    """`pduName source sourceIp sourcePort destIp destPort` as texts without blanks and line ends.

    Those, and the percent sign, stand as `%20`, `%0A` and `%25`, so that joined by blanks the columns can
    be told apart again.
    """
    texts = (stream.name, stream.source, stream.src, str(stream.sport), stream.dst, str(stream.dport))
    return tuple(text.replace("%", "%25").replace(" ", "%20").replace("\n", "%0A") for text in texts)


def plain(column: str) -> str:
    """The text that `identity_columns` made a column of."""
    return unquote(column)
