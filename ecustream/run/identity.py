"""The id of an offline run, which is the same whenever the run is repeated."""

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from ecustream.config import Config
from ecustream.scoring.manifest import BundleFiles

__all__ = ["run_id"]


def run_id(config: Config, traces: Sequence[Path], names: Sequence[str], files: BundleFiles) -> str:
    """Derived from traces, bundle and configuration, so that an offline run can be repeated to the byte."""
    # Where the bundle lies does not matter, but what is in it.
    config = replace(config, scoring=replace(config.scoring, model=None))
    digest = hashlib.sha256(msgspec.json.encode(config))
    digest.update(msgspec.json.encode(files.info.sha256))
    if len(names) > 1:
        # Then they stand in the events.
        digest.update(msgspec.json.encode(names))
    for trace in traces:
        if trace.is_file():
            digest.update(str(trace.stat().st_size).encode())
            with trace.open("rb") as file:
                digest.update(file.read(1 << 20))
        else:
            digest.update(str(time.time_ns()).encode())
    return digest.hexdigest()[:16]
