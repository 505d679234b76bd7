"""A bundle as further training starts from it: tokenizer, cycles, and traces read as it reads them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ecustream.knowledge import names_of
from ecustream.scoring.bundle import Bundle
from ecustream.scoring.manifest import BundleFiles, read_bundle
from ecustream.scoring.network import AnyNetwork
from ecustream.scoring.tokenizer import LineTokenizer
from training.traces import Traces

__all__ = ["Base", "open_base"]


class Base(NamedTuple):
    """A bundle that is trained further; `cycles_ns` of its PDUs by key."""

    files: BundleFiles
    tokenizer: LineTokenizer
    network: AnyNetwork
    cycles_ns: dict[str, int]

    @property
    def path(self) -> Path:
        """The bundle's folder."""
        return self.files.path

    def traces(self, paths: Sequence[Path], source: str | None = None) -> Traces:
        """Traces with the bundle's names and keys."""
        return Traces(paths, names_of(self.files.info), self.files.info.key, source)


def open_base(path: Path) -> Base:
    """Read a bundle.

    Raises:
        BundleError: it is damaged.
    """
    files = read_bundle(path)
    bundle = Bundle(files)
    return Base(
        files, bundle.new_tokenizer(), bundle.network, {pdu.key: pdu.cycle_ns for pdu in files.info.pdus}
    )
