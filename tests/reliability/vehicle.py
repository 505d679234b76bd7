"""The traffic that the rows send: drives of the vehicle that the shipped bundle was fitted to."""

from collections.abc import Sequence
from pathlib import Path

from ecustream.capture.files import open_capture
from ecustream.ledger import Ledger
from ecustream.traffic import Frame
from tests.capture.capture_files import pcap_header, pcap_record
from training.simulate import draw_vehicle, write_trace
from training.simulate.faults.spec import ExplicitFault, FaultSpec

__all__ = ["SOURCE", "drive", "frames_of", "write_frames"]

SOURCE = "ETH1"
"""The bus as the shipped bundle calls it."""
_DRIVE = 7
"""Neither one of those that the bundle was fitted to, nor that of the demo trace."""
_IP = (b"\x08\x00", b"\x86\xdd")
_TAG = b"\x81\x00"


def drive(path: Path, seconds: float, faults: Sequence[ExplicitFault] = ()) -> Path:
    """Write so much of the vehicle's traffic to `path` (pcap); its labels lie beside it.

    It has 550 lines a second in 350 frames. What is no IP (time synchronisation) is left out, since the
    kernel's filter does not let it pass, so that each frame that is sent is one that comes.
    """
    whole = path.with_suffix(".pcapng")
    spec = FaultSpec(source="the row", explicit=tuple(faults)) if faults else "none"
    write_trace(draw_vehicle("bench"), whole, seconds=seconds, drive=_DRIVE, faults=spec)
    write_frames(path, [frame for frame in frames_of(whole) if _ethertype(frame.data) in _IP])
    return path


def frames_of(trace: Path) -> list[Frame]:
    """All frames of a capture."""
    with open_capture(trace, Ledger()) as reader:
        return [frame for batch in reader for frame in batch]


def write_frames(path: Path, frames: Sequence[Frame]) -> None:
    """Write a capture of these frames."""
    path.write_bytes(pcap_header() + b"".join(map(pcap_record, frames)))


def _ethertype(data: bytes) -> bytes:
    return data[16:18] if data[12:14] == _TAG else data[12:14]
