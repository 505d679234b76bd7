"""Draw the ECUs of a vehicle, and what its PDUs are drawn by."""

from dataclasses import dataclass

from training.draws import Draws
from training.simulate.conventions import mac_address
from training.simulate.presets import ECU_STEMS, Preset
from training.simulate.vehicle import EcuModel

__all__ = ["TESTER", "EcuPlan", "plan_ecus"]

US = 1_000
MS = 1_000_000

TESTER = "Tester"
HOME_VLAN, OTHER_VLAN = 3, 5
# These belong to another VLAN than the drive train's.
ELSEWHERE = ("MIB", "KOMBI", "HCP3", "OCU")
# ECUs whose COM task runs faster spread what is slower over activations of this distance.
OFFSET_GRID_NS = 10 * MS


@dataclass(frozen=True, slots=True)
class EcuPlan:
    """An ECU, and what its PDUs are drawn by.

    Attributes:
        ecu: the ECU.
        vlan: the VLAN on which it sends.
        is_ipv4: it has an IPv4 address in place of an IPv6 one.
        grid_ns: distance of the activations over which its slower PDUs are spread.
        grandmaster: it sends the time.
        fast: it has PDUs with a cycle of less than 10 ms.
        weight: its share of the PDUs, to those of others; 0: it has none but calls.
    """

    ecu: EcuModel
    vlan: int
    is_ipv4: bool
    grid_ns: int
    grandmaster: bool
    fast: bool
    weight: float


def plan_ecus(draws: Draws, size: Preset) -> list[EcuPlan]:
    """The ECUs of a vehicle, a tester last where there is one."""
    first = ["HCP1", "GATEWAY"] if size.ecus > 2 else ["HCP1"]
    others = [name for name in ECU_STEMS if name not in first]
    names = first + draws.sample(others, size.ecus - len(first))
    master = "GATEWAY" if "GATEWAY" in names else "HCP1"
    gateways = [master, *(name for name in names if name != master)][: size.gateways]
    fast = _fast_names(draws, names, size.pdus)
    synchronised = {master} if len(names) > 1 or draws.random() < 0.5 else set()
    if len(names) > 2:
        synchronised.add(draws.choice([name for name in names if name != master]))
    plain = [name for name in names if name not in {*first, *fast}]
    ipv4 = draws.choice(plain) if size.ecus > 2 else ""
    if size.ecus == 1:
        names.append(TESTER)
    nodes = sorted(draws.sample(range(0x10, 0xF0), len(names)))
    plans = []
    for name, node in zip(names, nodes, strict=True):
        # 125 ms are no multiple of 10 ms.
        raster_ns = fast.get(name, 5 * MS if name == master or draws.random() < size.fine_share else 10 * MS)
        is_coarse = draws.random() < 0.5 or name in {master, *fast}
        grid_ns = OFFSET_GRID_NS if is_coarse else raster_ns
        ecu = EcuModel(
            name=name,
            node=node,
            mac=mac_address(node),
            raster_ns=raster_ns,
            anchor_ns=draws.integer(0, raster_ns - 1),
            drift_ppb=0 if name in synchronised else draws.integer(-100_000, 100_000),
            jitter_sigma_ns=draws.integer(5 * US, 100 * US),
            gap_ns=draws.integer(10 * US, 40 * US),
            gateway=name in gateways,
            wake_delay_ns=draws.integer(0, 300 * MS),
            start_delay_ns=draws.integer(80, 1500) * MS,
        )
        vlan = OTHER_VLAN if name in ELSEWHERE and len(names) > 2 else HOME_VLAN
        weight = 0.0 if name == TESTER else draws.uniform(0.5, 1.5)
        plans.append(EcuPlan(ecu, vlan, name == ipv4, grid_ns, name == master, name in fast, weight))
    return plans


def _fast_names(draws: Draws, names: list[str], pdus: int) -> dict[str, int]:
    """The raster of the ECUs that send PDUs in 5 ms; the first one has an even faster task."""
    if len(names) == 1:
        return {}
    count = max(1, pdus // 100)
    candidates = [name for name in names if name != "GATEWAY"]
    chosen = draws.sample(candidates, count)
    return {name: 5 * MS if at or len(names) == 2 else 2_500 * US for at, name in enumerate(chosen)}
