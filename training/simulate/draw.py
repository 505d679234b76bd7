"""Draw a vehicle: who sends which PDUs, in which cycles, what they are called, and where they go."""

from dataclasses import replace

from ecustream.errors import ConfigError
from training.draws import Draws
from training.simulate.draw_copies import with_copies
from training.simulate.draw_cycles import draft_pdus, in_task_order
from training.simulate.draw_ecus import plan_ecus
from training.simulate.draw_pdus import complete_pdus, number_and_name
from training.simulate.draw_protocols import with_infrastructure, with_services
from training.simulate.draw_sockets import Network
from training.simulate.presets import MODES, PRESETS
from training.simulate.vehicle import ModeModel, Vehicle

__all__ = ["PRESETS", "draw_vehicle"]

MS = 1_000_000


def draw_vehicle(preset: str = "bench", seed: int = 0) -> Vehicle:
    """Draw the vehicle `seed` of a preset; the same arguments give the same vehicle.

    Args:
        preset: a key of `PRESETS`: `bench` (20 PDUs, 2 ECUs, about 560 PDU/s), `hcp` (100, 1, 2,750),
            `domain` (200, 6, 5,300), `vehicle` (400, 12, 10,800) or `large` (800, 25, 19,800). Where there
            is one ECU only, a small one called Tester comes on top and calls its services.
        seed: which vehicle of that size, 0 or more.

    Raises:
        ConfigError: the preset is unknown or the seed negative.
    """
    if preset not in PRESETS:
        raise ConfigError(f"--preset {preset}: no such preset, there are {', '.join(PRESETS)}")
    if seed < 0:
        raise ConfigError(f"--seed {seed}: a seed is 0 or more")
    size = PRESETS[preset]
    path = ("vehicle", preset, seed)
    plans = plan_ecus(Draws(*path, "ecus"), size)
    modes = _draw_modes(Draws(*path, "modes"), size.modes)
    drafts = draft_pdus(Draws(*path, "cycles"), size, plans, modes)
    blocks = in_task_order(Draws(*path, "groups"), drafts)
    pdus = complete_pdus(Draws(*path, "pdus"), plans, blocks)
    pdus = number_and_name(Draws(*path, "names"), plans, pdus)
    network = Network(path, plans)
    pdus = [replace(pdu, sockets=(network.to_all(pdu.ecu, plans[pdu.ecu].vlan),)) for pdu in pdus]
    vehicle = Vehicle(preset, seed, tuple(plan.ecu for plan in plans), (), tuple(pdus), modes)
    vehicle = with_services(Draws(*path, "services"), vehicle, size.pairs, network)
    vehicle = with_infrastructure(Draws(*path, "infrastructure"), vehicle, plans, network)
    return with_copies(path, vehicle, size, network)


def _draw_modes(draws: Draws, count: int) -> tuple[ModeModel, ...]:
    kinds = MODES[:count] if count == len(MODES) else draws.sample(MODES, count)
    modes = []
    for kind in kinds:
        active = draws.integer(50, 200)
        idle = draws.integer(max(100, 2 * active), 600)
        modes.append(ModeModel(kind.name, active * 100 * MS, idle * 100 * MS))
    return tuple(modes)
