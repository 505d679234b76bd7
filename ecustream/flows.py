"""What tells several streams of one PDU name apart, in words."""

from collections.abc import Mapping

__all__ = ["flows"]


def flows(names: Mapping[str, str]) -> dict[str, str]:
    """For each stream `to DESTINATION`, or `from SENDER` where the destination is one for all.

    Args:
        names: PDU names by the key of their stream.

    Returns:
        The words by key; empty for a name that has one stream.
    """
    keys: dict[str, list[str]] = {}
    for key, name in names.items():
        keys.setdefault(name, []).append(key)
    return {key: _flow(key, keys[name]) for key, name in names.items()}


def _flow(key: str, keys_of_name: list[str]) -> str:
    if len(keys_of_name) == 1:
        return ""
    # A stream's key ends in sender and destination.
    _, _, sender, destination = key.rsplit("|", 3)
    one_destination = len({other.rsplit("|", 1)[1] for other in keys_of_name}) == 1
    return f"from {sender}" if one_destination else f"to {destination}"
