"""Streaming anomaly detector for the communication of electronic control units."""

from importlib.metadata import version as _version

__all__ = ["__version__"]

__version__ = _version("ecustream")
