"""Traffic as tables of columns, a row a PDU: on its way to the network, and in datagrams on the wire."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import numpy.typing as npt

from training.draws import IntArray

__all__ = ["DATAGRAM_STEP", "BoolArray", "Capture", "Sends", "Wire"]

BoolArray = npt.NDArray[np.bool_]

DATAGRAM_STEP = 16
"""Distance of two datagrams' numbers: room for the copies that a fault makes."""


class _Table:
    """Columns of one length; subclasses are dataclasses of arrays."""

    __slots__ = ()

    def take(self, rows: BoolArray | IntArray) -> Self:
        """The rows of a mask or an index array, as a new table."""
        return type(self)(*(getattr(self, f.name)[rows] for f in fields(self)))  # type: ignore[arg-type]

    @classmethod
    def join(cls, tables: list[Self]) -> Self:
        """All rows of several tables, one after the other; at least one table."""
        names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
        return cls(*(np.concatenate([getattr(table, name) for table in tables]) for name in names))


@dataclass(slots=True)
class Sends(_Table):
    """PDUs handed to the sender's socket adaptor, one row a send; rows of one PDU are in order of time.

    Attributes:
        pdu: index in `Vehicle.pdus`.
        time_ns: when it is handed over, from the start of the trace.
        due: its cycle was due, as opposed to sent on change, as an event, a request or a reply.
        sent: it goes to the network; rows that a fault has taken out stay, with False.
        counter: how many sends of this PDU there were before, the base of its alive counter.
        changes: how many changes its value has seen, this send's included.
        data_ns: when its signals were sampled; `time_ns` but for frozen data.
        value: what role or send type make it say: the control bit vector of an NM message, 1 or 0 for a
            mode that is active or idle, the number of the request for a request and its reply; else 0.
        socket: the socket on which alone it goes out, in place of the PDU's own ones; -1 for these.
    """

    pdu: IntArray
    time_ns: IntArray
    due: BoolArray
    sent: BoolArray
    counter: IntArray
    changes: IntArray
    data_ns: IntArray
    value: IntArray
    socket: IntArray

    def __len__(self) -> int:
        return len(self.pdu)

    @classmethod
    def empty(cls) -> "Sends":
        """No rows."""
        return cls.make(np.zeros(0, np.int64), np.zeros(0, np.int64))

    @classmethod
    def make(cls, pdu: IntArray, time_ns: IntArray, due: BoolArray | bool = True) -> "Sends":
        """Rows that are sent at their time, with counters, changes and values of 0."""
        zeros = np.zeros(len(pdu), np.int64)
        return cls(
            pdu=np.asarray(pdu, np.int64),
            time_ns=np.asarray(time_ns, np.int64),
            due=np.broadcast_to(np.asarray(due, np.bool_), len(pdu)).copy(),
            sent=np.ones(len(pdu), np.bool_),
            counter=zeros,
            changes=zeros.copy(),
            data_ns=np.array(time_ns, np.int64),
            value=zeros.copy(),
            socket=zeros - 1,
        )


@dataclass(slots=True)
class Wire(_Table):
    """PDUs in datagrams, one row a PDU; the rows of one datagram are adjacent and in their order in it.

    Attributes:
        pdu: index in `Vehicle.pdus`.
        socket: index of the socket.
        datagram: number of its datagram, a multiple of `DATAGRAM_STEP`; a fault's copy of it has a number
            between.
        time_ns: when the datagram is sent, from the start of the trace; one value for all of its rows.
        handed_ns: `Sends.time_ns`, when the PDU was handed over; the datagram may leave later.
        counter, changes, data_ns, value: as in `Sends`.
    """

    pdu: IntArray
    socket: IntArray
    datagram: IntArray
    time_ns: IntArray
    handed_ns: IntArray
    counter: IntArray
    changes: IntArray
    data_ns: IntArray
    value: IntArray

    def __len__(self) -> int:
        return len(self.pdu)

    @classmethod
    def empty(cls) -> "Wire":
        """No rows."""
        return cls(*(np.zeros(0, np.int64) for _ in fields(cls)))


@dataclass(slots=True)
class Capture:
    """What the logger makes of a slice's datagrams, one row a datagram in order of sending.

    Attributes:
        time_ns: when it was sent, from the start of the trace.
        stamp_ns: the logger's timestamp, from the start of the trace.
        lost: the logger lost it.
    """

    time_ns: IntArray
    stamp_ns: IntArray
    lost: BoolArray
