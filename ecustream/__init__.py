"""Streaming anomaly detector for the communication of electronic control units."""

from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecustream.client.aio import AsyncSubscriber
    from ecustream.client.subscriber import Subscriber

__all__ = ["AsyncSubscriber", "Subscriber", "__version__"]

__version__ = _version("ecustream")


def __getattr__(name: str) -> Any:
    # Imported when first used: every command imports this package, and few need the client.
    if name == "Subscriber":
        from ecustream.client.subscriber import Subscriber

        return Subscriber
    if name == "AsyncSubscriber":
        from ecustream.client.aio import AsyncSubscriber

        return AsyncSubscriber
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
