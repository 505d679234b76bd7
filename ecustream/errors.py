"""The exception tree: every error that a user can mend is one sentence and one exit code."""

__all__ = ["BundleError", "ConfigError", "EcustreamError", "InputError", "OutputError"]


class EcustreamError(Exception):
    """Base of all errors meant for the user; `str(error)` is one clear sentence."""

    exit_code = 2


class InputError(EcustreamError):
    """A trace, label or name file cannot be used; the sentence names the file and the offset or line."""


class ConfigError(EcustreamError):
    """A configuration key or command line option is wrong; the sentence names it."""


class BundleError(EcustreamError):
    """A detector bundle is damaged, of another version, or of another vehicle."""


class OutputError(EcustreamError):
    """An events file, score log or socket cannot be opened or written."""
