"""When which fault happens in a trace."""

from ecustream.errors import ConfigError
from training.draws import Draws
from training.simulate.faults.base import Fault
from training.simulate.faults.kinds import FAULT_KINDS
from training.simulate.faults.planned import CLEAN_NS, SECOND, PlannedFault
from training.simulate.faults.spec import ExplicitFault, FaultSpec
from training.simulate.scenario import Day
from training.simulate.vehicle import Vehicle

__all__ = ["plan_faults"]

FIRST_NS = 5 * SECOND
CONTROL_SHARE = 1 / 8
ATTEMPTS = 8
# Most faults are over long before the next one is due; some are longer.
LONGEST_SHARES = ((0.7, 6), (2.0, 3), (5.0, 1))
SHORTEST_LIMIT_NS = 2 * SECOND
FREQUENT_S = 10.0
LONGEST_NS = 60 * SECOND
LONGEST_FREQUENT_NS = 15 * SECOND
# They do not depend on the length of the trace, which decides nothing.
EXPLICIT_LONGEST_NS = (15 * SECOND, 60 * SECOND, 240 * SECOND)


def plan_faults(vehicle: Vehicle, day: Day, seconds: float, drive: int, spec: FaultSpec) -> list[Fault]:
    """The faults of a trace in order of time.

    Those that are drawn do not overlap: at least a second before and after each is clean, and the first 5 s
    and the last second of the trace are. They happen while the vehicle drives steadily, but for a PDU that
    is sent on after a shutdown. A longer trace begins with the faults of a shorter one.

    Args:
        vehicle: whose PDUs and ECUs fail.
        day: its day without faults.
        seconds: length of the trace.
        drive: number of the drive.
        spec: which faults, from `read_faults`.

    Raises:
        ConfigError: the vehicle has no such PDU or ECU, or a given fault cannot be where it is to be.
    """
    end_ns = round(seconds * SECOND)
    faults: list[PlannedFault] = []
    for number, wish in enumerate(spec.explicit):
        rng = Draws("faults", vehicle.seed, drive, "explicit", number)
        faults.append(_explicit(rng, vehicle, day, end_ns, wish, f"{spec.source}: fault[{number}]"))
    if spec.every_s is not None:
        faults += _Drawing(vehicle, day, end_ns, drive, spec, list(faults)).faults()
    return sorted(faults, key=lambda fault: fault.at_ns)


class _Drawing:
    """Draws the faults of a trace."""

    def __init__(
        self,
        vehicle: Vehicle,
        day: Day,
        end_ns: int,
        drive: int,
        spec: FaultSpec,
        given: list[PlannedFault],
    ) -> None:
        self._vehicle = vehicle
        self._day = day
        self._end_ns = end_ns
        self._drive = drive
        self._spec = spec
        self._given = given
        self._every_ns = round((spec.every_s or 0) * SECOND)
        shares = spec.shares or tuple((kind, 1.0) for kind in FAULT_KINDS)
        possible = [
            (FAULT_KINDS[kind], share) for kind, share in shares if FAULT_KINDS[kind].targets(vehicle)
        ]
        self._faults = [(kind, share) for kind, share in possible if kind.category is not None]
        self._controls = [
            (kind, share) for kind, share in possible if kind.category is None and spec.controls
        ]

    def faults(self) -> list[PlannedFault]:
        """One per mean time, later where the one before takes longer."""
        faults: list[PlannedFault] = []
        slot, free_ns = 0, FIRST_NS
        while self._faults or self._controls:
            rng = Draws("faults", self._vehicle.seed, self._drive, slot)
            in_slot_ns = round(rng.random() * self._every_ns)
            # Where there is a backlog, the clean time still differs.
            at_ns = max(FIRST_NS + slot * self._every_ns + in_slot_ns, free_ns + in_slot_ns // 8)
            if at_ns + CLEAN_NS > self._end_ns:
                break
            longest_ns = self._longest_ns(rng)
            fault = self._at(rng, at_ns, longest_ns)
            if fault is not None and fault.until_ns + CLEAN_NS > self._end_ns:
                break
            if fault is None and at_ns + longest_ns + CLEAN_NS > self._end_ns:
                # A longer trace may have one here.
                break
            if fault is not None:
                faults.append(fault)
                free_ns = fault.until_ns + CLEAN_NS
            slot += 1
        return faults

    def _longest_ns(self, rng: Draws) -> int:
        factors, weights = zip(*LONGEST_SHARES, strict=True)
        limit_ns = LONGEST_FREQUENT_NS if self._every_ns < FREQUENT_S * SECOND else LONGEST_NS
        longest_ns = round(rng.choice(factors, weights) * self._every_ns)
        return min(max(longest_ns, SHORTEST_LIMIT_NS), limit_ns)

    def _at(self, rng: Draws, at_ns: int, longest_ns: int) -> PlannedFault | None:
        """A fault in a slot; None: what was drawn cannot be there."""
        wants_control = rng.random() < CONTROL_SHARE
        table = self._controls if (wants_control and self._controls) or not self._faults else self._faults
        kinds, weights = zip(*table, strict=True)
        for _ in range(ATTEMPTS):
            kind: type[PlannedFault] = rng.choice(kinds, weights)
            severity = rng.choice(self._spec.severities)
            needed_ns = max(longest_ns, kind.needed_ns(self._vehicle))
            fault = kind.draw(rng, self._vehicle, self._day, at_ns, severity, needed_ns)
            if fault is None:
                continue
            if fault.until_ns + CLEAN_NS > self._end_ns:
                return fault
            if fault.fits(self._day) and not any(_close(fault, given) for given in self._given):
                return fault
        return None


def _close(fault: Fault, given: Fault) -> bool:
    return fault.at_ns < given.until_ns + CLEAN_NS and given.at_ns < fault.until_ns + CLEAN_NS


def _explicit(
    rng: Draws, vehicle: Vehicle, day: Day, end_ns: int, wish: ExplicitFault, path: str
) -> PlannedFault:
    kind = FAULT_KINDS[wish.kind]
    at_ns = round(wish.at_s * SECOND)
    if at_ns >= end_ns:
        raise ConfigError(
            f"{path}.at_s: must be less than the trace's {end_ns / SECOND:g} s, not {wish.at_s:g}"
        )
    target = None if wish.target is None else _target(vehicle, kind, wish.target, path)
    if not kind.targets(vehicle):
        raise ConfigError(f"{path}.kind: {kind.kind} needs {kind.needs}, and this vehicle has none")
    for longest_ns in EXPLICIT_LONGEST_NS:
        for _ in range(ATTEMPTS):
            severity = rng.integer(1, 4)
            fault = kind.draw(rng, vehicle, day, at_ns, severity, longest_ns, target=target, size=wish.size)
            if fault is not None and fault.fits(day):
                if fault.until_ns > end_ns:
                    raise ConfigError(
                        f"{path}.at_s: {kind.kind} at {wish.at_s:g} s may last until "
                        f"{fault.until_ns / SECOND:.1f} s, but the trace ends at {end_ns / SECOND:g} s"
                    )
                return fault
    raise ConfigError(
        f"{path}: {kind.kind} cannot be at {wish.at_s:g} s; it needs {kind.needs}, and a state that lasts"
    )


def _target(vehicle: Vehicle, kind: type[PlannedFault], name: str, path: str) -> int:
    names = [item.name for item in (vehicle.ecus if kind.target_type == "ecu" else vehicle.pdus)]
    key = f"{path}.{kind.target_type}"
    if name not in names:
        allowed = ", ".join(names[target] for target in kind.targets(vehicle)[:8])
        raise ConfigError(f"{key}: there is no {name}; {kind.kind} takes for instance {allowed}")
    target = names.index(name)
    if target not in kind.targets(vehicle):
        raise ConfigError(f"{key}: {name} cannot have {kind.kind}, which needs {kind.needs}")
    return target
