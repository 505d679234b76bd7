"""Draw what a vehicle sends beside the PDUs of its COM: calls of services, their offers, NM and gPTP."""

from collections import defaultdict
from dataclasses import replace

from training.draws import Draws
from training.simulate.contents import nm_constant, offers_of, service_constant
from training.simulate.conventions import GPTP_CYCLE_NS, GPTP_LENGTHS, SD_ID
from training.simulate.draw_ecus import TESTER, EcuPlan
from training.simulate.draw_sockets import Network
from training.simulate.names import NM_PORT
from training.simulate.presets import METHODS
from training.simulate.vehicle import PduModel, Role, Vehicle

__all__ = ["with_infrastructure", "with_services"]

MS = 1_000_000

SD_PORT, SERVICE_PORT, CLIENT_PORT = 30490, 30509, 40509
NAMES: dict[Role, str] = {"nm": "NM", "sd": "SD", "sync": "gPTP_Sync", "follow_up": "gPTP_Follow_Up"}
# Last parts of multicast addresses.
NM_NODES, SD_NODES = 0x30, 0xFD


def with_services(draws: Draws, vehicle: Vehicle, pairs: int, network: Network) -> Vehicle:
    """Add requests, and replies by other ECUs."""
    ecus = [at for at in range(len(vehicle.ecus)) if not network.is_ipv4(at)]
    has_tester = vehicle.ecus[-1].name == TESTER
    pdus = list(vehicle.pdus)
    methods: dict[int, int] = defaultdict(int)
    for _ in range(pairs):
        server, client = (0, 1) if has_tester else draws.sample(ecus, 2)
        methods[server] += 1
        pdu_id = 0x1200 + vehicle.ecus[server].node << 16 | methods[server]
        name = f"{vehicle.ecus[server].name}_Get{METHODS[methods[server] - 1]}"
        vlan = network.home(server)
        ports = CLIENT_PORT, SERVICE_PORT
        request = _service_pdu(draws, "request", pdu_id, f"{name}_Req", client)
        reply = _service_pdu(draws, "reply", pdu_id, f"{name}_Resp", server)
        latency_ns = draws.integer(1, 3) * MS, draws.integer(5, 30) * MS
        pdus += (
            replace(
                request,
                sockets=(network.call(client, ports[0], server, ports[1], vlan),),
                event_interval_ns=draws.integer(500, 5_000) * MS,
            ),
            replace(
                reply,
                sockets=(network.call(server, ports[1], client, ports[0], vlan),),
                replies_to=len(pdus),
                latency_ns=latency_ns,
            ),
        )
    return replace(vehicle, pdus=tuple(pdus), sockets=tuple(network.sockets))


def _service_pdu(draws: Draws, role: Role, pdu_id: int, name: str, ecu: int) -> PduModel:
    length = draws.choice((8, 16, 24, 48) if role == "reply" else (8, 12, 16))
    return PduModel(
        pdu_id=pdu_id,
        name=name,
        ecu=ecu,
        sockets=(),
        send_type="event",
        cycle_ns=None,
        length=length,
        constant=service_constant(role, length),
        role=role,
        trigger=True,
        stop_delay_ns=draws.integer(100, 5_000) * MS,
    )


def with_infrastructure(draws: Draws, vehicle: Vehicle, plans: list[EcuPlan], network: Network) -> Vehicle:
    """Add network management, the offers of services, and gPTP."""
    pdus = [
        *vehicle.pdus,
        *_network_management(draws, vehicle, network),
        *_service_discovery(draws, vehicle, network),
        *_time(draws, vehicle, next(at for at, plan in enumerate(plans) if plan.grandmaster), network),
    ]
    return replace(vehicle, pdus=tuple(pdus), sockets=tuple(network.sockets))


def _network_management(draws: Draws, vehicle: Vehicle, network: Network) -> list[PduModel]:
    cycle_ns = draws.choice((500, 640)) * MS
    return [
        _background_pdu(
            draws,
            vehicle,
            at,
            "nm",
            network.alone(at, NM_NODES, NM_PORT, "none"),
            cycle_ns,
            nm_constant(ecu.node, 8),
        )
        for at, ecu in enumerate(vehicle.ecus)
        if ecu.name != TESTER
    ]


def _service_discovery(draws: Draws, vehicle: Vehicle, network: Network) -> list[PduModel]:
    pdus = []
    for at in sorted({pdu.ecu for pdu in vehicle.pdus if pdu.role == "reply"}):
        socket = network.alone(at, SD_NODES, SD_PORT, "soad")
        cycle_ns = draws.choice((1000, 1500, 2000)) * MS
        pdu = _background_pdu(draws, vehicle, at, "sd", socket, cycle_ns, offers_of(vehicle, at))
        pdus.append(replace(pdu, pdu_id=SD_ID))
    return pdus


def _time(draws: Draws, vehicle: Vehicle, master: int, network: Network) -> list[PduModel]:
    """Sync and Follow_Up, which are sent together."""
    socket = network.gptp(master)
    phase = draws.integer(0, GPTP_CYCLE_NS // vehicle.ecus[master].raster_ns - 1)
    pdus = [
        _background_pdu(draws, vehicle, master, role, socket, GPTP_CYCLE_NS, bytes(length))
        for role, length in GPTP_LENGTHS.items()
    ]
    return [replace(pdu, phase=phase, group=len(vehicle.pdus)) for pdu in pdus]


def _background_pdu(
    draws: Draws, vehicle: Vehicle, ecu: int, role: Role, socket: int, cycle_ns: int, constant: bytes
) -> PduModel:
    model = vehicle.ecus[ecu]
    return PduModel(
        pdu_id=0,
        name=f"{NAMES[role]}_{model.name}",
        ecu=ecu,
        sockets=(socket,),
        send_type="cyclic",
        cycle_ns=cycle_ns,
        length=len(constant),
        constant=constant,
        role=role,
        phase=draws.integer(0, cycle_ns // model.raster_ns - 1),
        trigger=True,
    )
