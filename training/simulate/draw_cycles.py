"""Draw which ECU sends how many PDUs, how often, and in which order."""

from collections import defaultdict
from dataclasses import dataclass

from training.draws import Draws
from training.simulate.draw_ecus import EcuPlan
from training.simulate.presets import CLASSIC_STEMS, CYCLE_SHARES, MODES, SWITCHED_CYCLES_MS, Preset
from training.simulate.vehicle import ModeModel, SendType

__all__ = ["TERMINAL_STATUS", "Draft", "draft_pdus", "in_task_order"]

TERMINAL_STATUS = "Klemmen_Status_01"

EVENT_SHARE, MIXED_SHARE, SWITCHED_SHARE = 0.07, 0.20, 0.08
FORWARDED_SHARE = 0.12
GROUPED_SHARE = 0.15
# Rounds the shares so that even a bench has a 5 ms PDU, which brings it to its usual rate.
SHARE_ROUNDING = 0.85
# What goes out on change would be slow otherwise.
ON_CHANGE_MIN_CYCLE_MS = 50
FORWARDED_MIN_CYCLE_MS, FORWARDED_USUAL_CYCLE_MS = 10, 100


@dataclass(frozen=True, slots=True)
class Draft:
    """A PDU before it has a place, a name and a destination."""

    ecu: int
    send_type: SendType
    cycle_ms: int | None
    fast_cycle_ms: int | None = None
    mode: int | None = None
    announces: bool = False
    forwarded: bool = False
    stem: str = ""


def draft_pdus(draws: Draws, size: Preset, plans: list[EcuPlan], modes: tuple[ModeModel, ...]) -> list[Draft]:
    """The PDUs of a preset without requests and replies: cyclic ones by cycle, switched ones, events."""
    called = size.pairs if size.ecus == 1 else 2 * size.pairs
    events = max(round(size.pdus * EVENT_SHARE), called) - called
    switched = round(size.pdus * SWITCHED_SHARE)
    fast = [at for at, plan in enumerate(plans) if plan.fast]
    cycles_ms = _apportion(CYCLE_SHARES, size.pdus - called - events - switched)
    if not fast:
        cycles_ms = [max(cycle_ms, 10) for cycle_ms in cycles_ms]
    numbers = range(len(cycles_ms))

    terminal = draws.choice([n for n in numbers if cycles_ms[n] in (100, 200)])
    slow = draws.shuffled([n for n in numbers if cycles_ms[n] >= ON_CHANGE_MIN_CYCLE_MS and n != terminal])
    announcers = [n for n in slow if 100 <= cycles_ms[n] <= 1000][: size.modes]
    mixed_count = round(size.pdus * MIXED_SHARE) - 1 - size.modes
    mixed = {terminal, *announcers, *[n for n in slow if n not in announcers][:mixed_count]}
    forwarded = _draw_forwarded(draws, size, [n for n in numbers if n not in mixed], cycles_ms)

    gateways = [at for at, plan in enumerate(plans) if plan.ecu.gateway]
    deal = _Dealer(draws, plans)
    kinds = {kind.name: kind for kind in MODES}
    stems = [kinds[mode.name].stems for mode in modes]
    drafts = []
    for n in numbers:
        if n in forwarded:
            drafts.append(
                Draft(
                    draws.choice(gateways),
                    "cyclic",
                    cycles_ms[n],
                    forwarded=True,
                    stem=draws.choice(CLASSIC_STEMS),
                )
            )
        elif n == terminal:
            drafts.append(Draft(gateways[0], "mixed", cycles_ms[n], stem=TERMINAL_STATUS))
        elif n in announcers:
            mode = announcers.index(n)
            drafts.append(
                Draft(deal.next(), "mixed", cycles_ms[n], mode=mode, announces=True, stem=stems[mode][0])
            )
        else:
            ecu = fast[n % len(fast)] if cycles_ms[n] < 10 else deal.next()
            drafts.append(Draft(ecu, "mixed" if n in mixed else "cyclic", cycles_ms[n]))
    for n in range(switched):
        slow_ms, fast_ms = draws.choice(list(SWITCHED_CYCLES_MS), list(SWITCHED_CYCLES_MS.values()))
        mode = n % size.modes
        drafts.append(Draft(deal.next(), "mode", slow_ms, fast_ms, mode, stem=draws.choice(stems[mode])))
    return drafts + [Draft(deal.next(), "event", None) for _ in range(events)]


def _apportion(shares: dict[int, int], count: int) -> list[int]:
    """`count` items in the given shares of 100, in the order of `shares`."""
    items: list[int] = []
    cumulated = 0
    for item, share in shares.items():
        cumulated += share
        upto = min(count, int(count * cumulated / 100 + SHARE_ROUNDING)) if cumulated < 100 else count
        items += [item] * (upto - len(items))
    return items


def _draw_forwarded(draws: Draws, size: Preset, cyclic: list[int], cycles_ms: list[int]) -> set[int]:
    """Which of the cyclic PDUs are forwarded: slow ones, and in vehicles of several ECUs few fast ones."""
    count = round(size.pdus * FORWARDED_SHARE)
    fast = [n for n in cyclic if FORWARDED_MIN_CYCLE_MS <= cycles_ms[n] < FORWARDED_USUAL_CYCLE_MS]
    slow = [n for n in cyclic if cycles_ms[n] >= FORWARDED_USUAL_CYCLE_MS]
    fast_count = count // 5 if size.ecus > 1 else 0
    return {*draws.sample(fast, fast_count), *draws.sample(slow, count - fast_count)}


class _Dealer:
    """Deals PDUs to ECUs: every other round evenly, so that each ECU has fast ones when these come first."""

    def __init__(self, draws: Draws, plans: list[EcuPlan]) -> None:
        self._draws = draws
        self._ecus = [at for at, plan in enumerate(plans) if plan.weight]
        self._weights = [plans[at].weight for at in self._ecus]
        self._dealt = 0
        self._round: list[int] = []

    def next(self) -> int:
        """The ECU that gets the next PDU."""
        if not self._round:
            count = len(self._ecus)
            is_even = self._dealt // count % 2 == 0
            self._round = (
                self._draws.shuffled(self._ecus)
                if is_even
                else [self._draws.choice(self._ecus, self._weights) for _ in range(count)]
            )
        self._dealt += 1
        return self._round.pop()


def in_task_order(draws: Draws, drafts: list[Draft]) -> list[list[Draft]]:
    """The PDUs ECU by ECU in the order of its task; a block of several is sent together."""
    alike: dict[tuple[int, int | None], list[int]] = defaultdict(list)
    for n, draft in enumerate(drafts):
        if draft.send_type == "cyclic" and not draft.forwarded and not draft.stem and draft.cycle_ms != 5:
            alike[draft.ecu, draft.cycle_ms].append(n)
    left = round(len(drafts) * GROUPED_SHARE)
    blocks: list[list[Draft]] = []
    grouped: set[int] = set()
    for members in draws.shuffled([members for members in alike.values() if len(members) > 1]):
        count = min(draws.integer(2, 5), len(members), left)
        if count < 2:
            continue
        grouped |= set(members[:count])
        blocks.append([drafts[n] for n in members[:count]])
        left -= count
    blocks += [[draft] for n, draft in enumerate(drafts) if n not in grouped]
    # The fastest PDUs do not wait: what was collected before them in an activation leaves with them.
    return sorted(draws.shuffled(blocks), key=lambda block: (block[0].ecu, block[0].cycle_ms == 5))
