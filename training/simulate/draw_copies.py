"""Draw which PDUs go to further destinations, so that a vehicle has the rates of its preset."""

from collections.abc import Callable
from dataclasses import replace

from training.draws import Draws
from training.simulate.draw_sockets import Network
from training.simulate.presets import Preset
from training.simulate.rates import expected_datagram_rate, expected_pdu_rate, send_rate
from training.simulate.vehicle import PduModel, Vehicle

__all__ = ["with_copies"]

MS = 1_000_000
S = 1_000_000_000

COPIED_SHARE = 0.15
# A fast PDU has one further destination at most.
MANY_COPIES_MIN_CYCLE_NS = 200 * MS
VLANS = (3, 5, 2, 7, 10)
# Last part of the multicast address to which gateways copy.
ROUTED_NODES = 0x48

ATTEMPTS = 10
# How far rates may be from the preset's, datagram rates by twice as much.
FITS = 0.04
SWAPS = 600


def with_copies(path: tuple[str, str, int], vehicle: Vehicle, size: Preset, network: Network) -> Vehicle:
    """Send some PDUs to further destinations, those with which the rates are closest to the preset's."""
    best, least = vehicle, float("inf")
    for attempt in range(ATTEMPTS):
        candidate = _copied(Draws(*path, "copies", attempt), vehicle, size, network.copy())
        misfit = abs(expected_pdu_rate(candidate) / size.pdu_rate - 1)
        if size.datagram_rate is not None:
            off = abs(expected_datagram_rate(candidate) / size.datagram_rate - 1)
            misfit = max(misfit, off / 2)
        if misfit < least:
            best, least = candidate, misfit
        if misfit < FITS:
            break
    return best


def _copied(draws: Draws, vehicle: Vehicle, size: Preset, network: Network) -> Vehicle:
    eligible = [
        index
        for index, pdu in enumerate(vehicle.pdus)
        if pdu.role == "com" and pdu.group is None and not pdu.trigger
    ]
    copies = {index: _draw_copies(draws, vehicle.pdus[index]) for index in eligible}
    added = {index: send_rate(vehicle, vehicle.pdus[index]) * copies[index] for index in eligible}
    count = round(size.pdus * COPIED_SHARE)
    chosen = _choose(
        draws, added, count, size.pdu_rate - expected_pdu_rate(vehicle), FITS / 4 * size.pdu_rate
    )
    further = [_further_sockets(draws, vehicle, ecu, network) for ecu in range(len(vehicle.ecus))]
    pdus = list(vehicle.pdus)
    for index in sorted(chosen):
        pdu = pdus[index]
        flows = further[pdu.ecu][: copies[index]]
        pdus[index] = replace(pdu, sockets=pdu.sockets + tuple(flow() for flow in flows))
    return replace(vehicle, pdus=tuple(pdus), sockets=tuple(network.sockets))


def _choose(draws: Draws, added: dict[int, float], count: int, total: float, tolerance: float) -> list[int]:
    """`count` keys of `added` whose values come close to `total`: random ones, swapped where that helps."""
    shuffled = draws.shuffled(list(added))
    chosen, others = shuffled[:count], shuffled[count:]
    missing = total - sum(added[n] for n in chosen)
    for _ in range(SWAPS):
        if abs(missing) < tolerance:
            break
        one, other = draws.integer(0, count - 1), draws.integer(0, len(others) - 1)
        gain = added[others[other]] - added[chosen[one]]
        if abs(missing - gain) < abs(missing):
            chosen[one], others[other] = others[other], chosen[one]
            missing -= gain
    return chosen


def _draw_copies(draws: Draws, pdu: PduModel) -> int:
    shortest_ns = min(pdu.fast_cycle_ns or S, pdu.cycle_ns or S)
    return draws.choice((1, 2, 3), (70, 20, 10)) if shortest_ns >= MANY_COPIES_MIN_CYCLE_NS else 1


def _further_sockets(draws: Draws, vehicle: Vehicle, ecu: int, network: Network) -> list[Callable[[], int]]:
    """Where copies of an ECU's PDUs go, the usual place first; sockets come into being when they are used."""
    home = network.home(ecu)
    vlans = draws.shuffled([vlan for vlan in VLANS if vlan != home])
    taken = [model.node for model in vehicle.ecus]
    listener = draws.choice(taken[:ecu] + taken[ecu + 1 :] or [0xF8])
    untagged = len(vehicle.ecus) > 2 and ecu == 2
    flows: list[Callable[[], int]] = [
        lambda: network.to_all(ecu, vlans[0]),
        lambda: network.to_node(ecu, None if untagged else home, listener),
    ]
    gateways = [at for at, model in enumerate(vehicle.ecus) if model.gateway and at != ecu]
    if gateways:
        gateway = draws.choice(gateways)
        flows.append(lambda: network.to_all(gateway, vlans[1], ROUTED_NODES))
    else:
        flows.append(lambda: network.to_all(ecu, vlans[1]))
    return flows[1:] + flows[:1] if untagged else draws.shuffled(flows)
