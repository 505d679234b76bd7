"""What a fault is: it changes schedules, sends or datagrams, and says so in a label."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from training.labels import Context, Label
from training.simulate.scenario import ScheduleEdit
from training.simulate.tables import Capture, Sends, Wire
from training.simulate.vehicle import SocketModel

__all__ = ["Category", "Fault"]

Category = Literal["delay", "eliminate", "inject", "manipulate", "reorder"]


class Fault(ABC):
    """One fault, or one control that looks like a fault and is none.

    A subclass does its work in one or more of four places: `edits` change schedules before anything is
    sent, `on_sends` changes the PDUs on their way to the network, `on_wire` the datagrams, `on_capture` what
    the logger makes of them.
    It finds out there what was wrong from when to when, and says so in `truth`.

    Attributes:
        kind: its name in labels and fault files.
        category: its place in the taxonomy of `Label`; None for controls.
        unit: of `size`.
        at_ns: when it begins at the earliest, from the start of the trace.
        until_ns: when its effect has ended at the latest.
        severity: 1 (hardly visible) to 4 (gross); for controls too.
        size: how much, in `unit`.
        edits: changes of schedules.
        extra_sockets: sockets that the vehicle does not have and the fault uses; their indices are
            `first_extra_socket` and following, set before the first call.
        counter_shift: by PDU, by how much less it has counted since the fault; to be taken from the running
            count of its sends after the last call of `on_sends`.
    """

    kind: ClassVar[str]
    category: ClassVar[Category | None]
    unit: ClassVar[str]

    edits: tuple[ScheduleEdit, ...] = ()
    extra_sockets: tuple[SocketModel, ...] = ()
    first_extra_socket: int = -1

    def __init__(self, at_ns: int, until_ns: int, severity: int, size: float) -> None:
        self.at_ns = at_ns
        self.until_ns = until_ns
        self.severity = severity
        self.size = size
        self.counter_shift: dict[int, int] = {}

    def on_sends(self, sends: Sends, lower_ns: int, upper_ns: int) -> Sends:
        """Change the sends of a slice.

        Called slice by slice while the slices overlap `at_ns` to `until_ns`. All rows have times in
        [lower_ns, upper_ns) and are in order of time. Rows of the result may be later than `upper_ns`, not
        earlier than `lower_ns`, and in any order; the fault is not given them again. To take a row out, set
        its `sent` to False.
        """
        return sends

    def on_wire(self, wire: Wire, lower_ns: int, upper_ns: int) -> Wire:
        """Change the datagrams of a slice, by the same rules; here, taking out is leaving out."""
        return wire

    def on_capture(self, capture: Capture) -> None:  # noqa: B027
        """Change, in place, the timestamps of a slice's datagrams, or mark some as lost."""

    def watch(self, wire: Wire) -> None:  # noqa: B027
        """See when the sends of a slice leave, before `on_wire` changes the datagrams."""

    @abstractmethod
    def truth(self, start_ns: int) -> Label | Context | None:
        """What happened, once all slices up to `until_ns` were seen; None: nothing did.

        Args:
            start_ns: start of the trace, nanoseconds since 1970.
        """
