"""Draw the sockets that a vehicle turns out to need."""

from training.draws import Draws
from training.simulate.conventions import (
    ALL_NODES,
    DESTINATION_PORT,
    SOURCE_PORT,
    group_address,
    node_address,
)
from training.simulate.draw_ecus import EcuPlan
from training.simulate.vehicle import Collection, Layout, SocketModel

__all__ = ["Network"]

US = 1_000

COLLECTIONS: tuple[Collection, ...] = ("queued", "last_is_best")


class Network:
    """The sockets that a vehicle turns out to need.

    Args:
        path: what the vehicle is drawn with.
        plans: its ECUs.

    Attributes:
        sockets: those that were needed so far.
    """

    def __init__(self, path: tuple[str, str, int], plans: list[EcuPlan]) -> None:
        self._path = path
        self._plans = plans
        self.sockets: list[SocketModel] = []

    def copy(self) -> "Network":
        """Another one with the same sockets, which grows on its own."""
        other = Network(self._path, self._plans)
        other.sockets = self.sockets.copy()
        return other

    def home(self, ecu: int) -> int:
        """The VLAN of an ECU."""
        return self._plans[ecu].vlan

    def is_ipv4(self, ecu: int) -> bool:
        """Whether an ECU has an IPv4 address in place of an IPv6 one."""
        return self._plans[ecu].is_ipv4

    def to_all(self, ecu: int, vlan: int, group: int = ALL_NODES) -> int:
        """Multicast of collected PDUs; index of the socket."""
        return self._collecting(ecu, vlan, group_address(group, vlan, self.is_ipv4(ecu)))

    def to_node(self, ecu: int, vlan: int | None, node: int) -> int:
        """Unicast of collected PDUs."""
        return self._collecting(ecu, vlan, node_address(node, vlan, self.is_ipv4(ecu)))

    def alone(self, ecu: int, group: int, port: int, layout: Layout) -> int:
        """Multicast of what is not collected, from and to one port."""
        vlan = self.home(ecu)
        return self._index(ecu, vlan, port, group_address(group, vlan, self.is_ipv4(ecu)), port, layout)

    def call(self, ecu: int, source_port: int, to: int, port: int, vlan: int) -> int:
        """Requests or replies from one ECU to another."""
        address = node_address(self._plans[to].ecu.node, vlan, self.is_ipv4(to))
        return self._index(ecu, vlan, source_port, address, port)

    def gptp(self, ecu: int) -> int:
        """Frames of gPTP."""
        return self._add(SocketModel(ecu, None, "", 0, "", 0, "gptp"))

    def _collecting(self, ecu: int, vlan: int | None, destination: str) -> int:
        draws = Draws(*self._path, "socket", ecu, str(vlan), destination)
        # What is forwarded comes at any time; a gateway waits long so that it need not leave alone.
        collect_ns = draws.integer(10 if self._plans[ecu].ecu.gateway else 2, 10) * 500 * US
        collection = draws.choice(COLLECTIONS, (70, 30))
        return self._index(
            ecu, vlan, SOURCE_PORT, destination, DESTINATION_PORT, "soad", collect_ns, collection
        )

    def _index(
        self,
        ecu: int,
        vlan: int | None,
        source_port: int,
        destination: str,
        port: int,
        layout: Layout = "soad",
        collect_ns: int = 0,
        collection: Collection = "queued",
    ) -> int:
        source = node_address(self._plans[ecu].ecu.node, vlan, self.is_ipv4(ecu))
        return self._add(
            SocketModel(ecu, vlan, source, source_port, destination, port, layout, collect_ns, collection)
        )

    def _add(self, socket: SocketModel) -> int:
        if socket not in self.sockets:
            self.sockets.append(socket)
        return self.sockets.index(socket)
