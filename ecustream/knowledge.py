"""What a run knows before it starts, from its bundle and configuration: names, states, calibration."""

from pathlib import Path

import msgspec

from ecustream.config import Config
from ecustream.decode.names import NameRow, NameTable
from ecustream.decode.state import ActivityState, MappedPdu
from ecustream.detect.calibration import Calibration, decode_calibration
from ecustream.errors import BundleError
from ecustream.scoring.manifest import BundleFiles, BundleInfo

__all__ = ["DEMO_BUNDLE", "activity_state", "bundle_folder", "calibration_of", "names_for", "names_of"]

DEMO_BUNDLE = Path(__file__).parent / "bundles" / "demo"
"""The bundle for the demo trace, which ships with the package."""


def bundle_folder(config: Config) -> Path:
    """The folder of the bundle that is configured."""
    return DEMO_BUNDLE if config.scoring.model is None else Path(config.scoring.model)


def names_of(info: BundleInfo) -> NameTable:
    """The name table that a bundle's traffic was read with."""
    return NameTable(msgspec.convert(info.names, list[NameRow]))


def calibration_of(files: BundleFiles) -> Calibration:
    """The calibration in a bundle.

    Raises:
        BundleError: it is damaged; the sentence names the bundle.
    """
    try:
        return decode_calibration(files.data["calibration.json"])
    except BundleError as error:
        raise BundleError(f"{files.path}: {error}") from None


def names_for(config: Config, info: BundleInfo) -> NameTable:
    """The name table that the configuration gives; else the bundle's.

    Raises:
        InputError: the configured one cannot be read.
    """
    if config.input.names is not None:
        return NameTable.load(config.input.names)
    return names_of(info)


def activity_state(config: Config, info: BundleInfo) -> ActivityState:
    """Where the configuration says that the activity state comes from, with the PDUs that the bundle knows.

    Raises:
        ConfigError: the mapped PDU's signal cannot be.
    """
    state = config.input.state
    mapped = None
    if state.pdu is not None:
        values = {int(text, 0): code for text, code in state.values.items()}
        mapped = MappedPdu(state.pdu, state.byte, state.mask, values)
    cycles = {pdu.key: pdu.cycle_ns for pdu in info.pdus if pdu.cycle_ns}
    return ActivityState(mapped, state.nm_port, cycles)
