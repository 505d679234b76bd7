"""A recorded trace: what tshark reads from it is what the decoder reads."""

import shutil
import subprocess
from pathlib import Path

import pytest
from scapy.utils import PcapNgReader

from ecustream.decode.lines import LineBuilder
from ecustream.decode.names import NameTable
from ecustream.traffic import Frame
from tests.decode.traffic_by_scapy import run

TRACES = Path(__file__).parents[3] / "shared" / "data" / "volvo_v40"
COUNT = 1500
FIELDS = ("frame.number", "vlan.id", "ipv6.src", "udp.srcport", "ipv6.dst", "udp.dstport", "pdu_transport.id")

needs_traces = pytest.mark.skipif(not TRACES.is_dir(), reason="recorded traffic is not beside the repository")


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """The first frames of the recorded trace, read by scapy."""
    made = []
    with PcapNgReader(str(TRACES / "normal.pcapng.gz")) as reader:
        for number, packet in zip(range(1, COUNT + 1), reader, strict=False):
            data = bytes(packet)
            made.append(Frame(number, int(packet.time * 10**9), "ETH1", 1, data, len(data)))
    return made


@needs_traces
@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_recorded_trace_decodes_as_in_tshark(frames: list[Frame]) -> None:
    """VLAN, addresses, ports and PDU ids of every frame agree."""
    command = ["tshark", "-r", str(TRACES / "normal.pcapng.gz"), "-c", str(COUNT), "-T", "fields"]
    command += ["-d", "udp.port==42557,pdu_transport", *(word for name in FIELDS for word in ("-e", name))]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    expected = [line.split("\t") for line in output.splitlines()]
    pdus, _ = run(frames)
    assert len(expected) == COUNT
    assert [
        [str(pdu.frame), *(str(cell) for cell in pdu.flow[1:]), f"0x{pdu.pdu_id or 0:08x}"] for pdu in pdus
    ] == expected


@needs_traces
def test_recorded_trace_is_named_from_its_table(frames: list[Frame]) -> None:
    """No PDU of the recording is unknown, and all of its lines are accounted for."""
    pdus, ledger = run(frames)
    lines = LineBuilder(ledger, NameTable.load(TRACES / "names.csv")).build(pdus)
    assert len(lines) == COUNT
    assert all(line.stream.name.startswith("V40_") for line in lines)
    assert ledger.balanced(["frames", "pdus"])
