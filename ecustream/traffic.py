"""What flows through the stages: frames, PDUs and log lines. Times are integer nanoseconds."""

from typing import NamedTuple

import msgspec

__all__ = [
    "ACTIVITY_STATES",
    "STATE_INIT",
    "STATE_NORMAL",
    "STATE_TRANSITION",
    "Flow",
    "Frame",
    "Line",
    "Pdu",
    "Stream",
]

STATE_INIT = 0
STATE_NORMAL = 1
STATE_TRANSITION = 2
ACTIVITY_STATES = {
    STATE_INIT: "not initialized",
    STATE_NORMAL: "normal operation",
    STATE_TRANSITION: "startup-shutdown",
}
"""The paper's three activity states; its sample log line writes 1 for normal operation."""


class Frame(msgspec.Struct, gc=False):
    """One link-layer frame as captured.

    Attributes:
        number: 1-based number of the packet in its capture, as Wireshark counts.
        time_ns: capture time, nanoseconds since 1970.
        source: interface or bus name, e.g. `ETH1`.
        linktype: LINKTYPE_ value of the interface; 1 is Ethernet.
        data: the captured bytes.
        wire_length: length on the wire; more than `len(data)` where the capture was cut by a snap length.
    """

    number: int
    time_ns: int
    source: str
    linktype: int
    data: bytes
    wire_length: int


class Flow(NamedTuple):
    """A UDP socket pair on a bus. `vlan` is the innermost VLAN id, or None where the frame had no tag."""

    source: str
    vlan: int | None
    src: str
    sport: int
    dst: str
    dport: int


class Pdu(msgspec.Struct, gc=False):
    """One PDU as found in a datagram; `pdu_id` is None where the socket has no PDU header."""

    frame: int
    time_ns: int
    flow: Flow
    pdu_id: int | None
    payload: bytes


class Stream(msgspec.Struct, frozen=True):
    """What a line belongs to: one named PDU between one sender and one receiver.

    Lines of one stream share one Stream object. `index` counts streams in order of first sight in a
    run. `key` is what "the same PDU" means in this run (see `ecustream.decode.lines`): delta time,
    calibration and name token hang on it.
    """

    index: int
    key: str
    name: str
    source: str
    src: str
    sport: int
    dst: str
    dport: int
    pdu_id: int | None = None


class Line(msgspec.Struct, gc=False):
    """One row of the log, as in the paper.

    Attributes:
        number: 0-based count of lines in the run.
        frame: number of the frame that carried it; 0 where the trace has no frames (CSV).
        time_ns: capture time of that frame.
        stream: the PDU and its addresses.
        state: activity state, see `ACTIVITY_STATES`.
        delta_ns: time since the previous line with the same key; None at the first.
    """

    number: int
    frame: int
    time_ns: int
    stream: Stream
    state: int
    delta_ns: int | None
