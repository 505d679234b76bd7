"""Draw the PDUs of a vehicle's COM: phases, events, payloads, ids and names."""

from dataclasses import replace

from training.draws import Draws
from training.simulate.contents import draw_constant, draw_signals
from training.simulate.conventions import is_trigger
from training.simulate.draw_cycles import TERMINAL_STATUS, Draft
from training.simulate.draw_ecus import EcuPlan
from training.simulate.presets import ECU_STEMS, LENGTH_SHARES
from training.simulate.vehicle import EcuModel, PduModel

__all__ = ["complete_pdus", "number_and_name"]

MS = 1_000_000

IGNITION_SHARE = 0.43


def complete_pdus(draws: Draws, plans: list[EcuPlan], blocks: list[list[Draft]]) -> list[PduModel]:
    """The PDUs, still without ids and destinations, and with the stems of their names."""
    stop_delays_ns = [[draws.integer(100, 5_000) * MS for _ in range(3)] for _ in plans]
    pdus: list[PduModel] = []
    for number, block in enumerate(blocks):
        plan = plans[block[0].ecu]
        phase = _draw_phase(draws, plan, block[0].cycle_ms)
        needs_ignition = draws.random() < IGNITION_SHARE and block[0].stem != TERMINAL_STATUS
        stop_delay_ns = draws.choice(stop_delays_ns[block[0].ecu])
        group = number if len(block) > 1 else None
        stem = draws.choice(ECU_STEMS[plan.ecu.name])
        pdus += (
            replace(
                _draw_pdu(draws, draft, plan.ecu),
                name=draft.stem or stem,
                phase=phase,
                group=group,
                needs_ignition=needs_ignition,
                stop_delay_ns=stop_delay_ns,
            )
            for draft in block
        )
    return pdus


def _draw_phase(draws: Draws, plan: EcuPlan, cycle_ms: int | None) -> int:
    if cycle_ms is None:
        return 0
    step_ns = min(plan.grid_ns, cycle_ms * MS)
    return draws.integer(0, cycle_ms * MS // step_ns - 1) * (step_ns // plan.ecu.raster_ns)


def _draw_pdu(draws: Draws, draft: Draft, ecu: EcuModel) -> PduModel:
    interval_ns = repetitions = repetition_ms = 0
    if draft.send_type == "mixed":
        interval_ns = 0 if draft.announces else _spread_ms(draws, 1_000, 20_000) * MS
        repetitions, repetition_ms = draws.integer(2, 4), draws.choice((10, 20))
    elif draft.send_type == "event":
        interval_ns = _spread_ms(draws, 2_000, 20_000) * MS
        repetitions, repetition_ms = draws.integer(2, 6), draws.choice((10, 20, 50))
    length = draws.choice(list(LENGTH_SHARES), list(LENGTH_SHARES.values()))
    cycle_ns = None if draft.cycle_ms is None else draft.cycle_ms * MS
    return PduModel(
        pdu_id=0,
        name="",
        ecu=draft.ecu,
        sockets=(),
        send_type=draft.send_type,
        cycle_ns=cycle_ns,
        length=length,
        constant=draw_constant(draws, length),
        fast_cycle_ns=None if draft.fast_cycle_ms is None else draft.fast_cycle_ms * MS,
        mode=draft.mode,
        announces=draft.announces,
        forwarded=draft.forwarded,
        trigger=is_trigger("com", cycle_ns),
        event_interval_ns=interval_ns,
        repetitions=repetitions,
        repetition_activations=repetition_ms * MS // ecu.raster_ns,
        signals=draw_signals(draws, length),
    )


def _spread_ms(draws: Draws, low: int, high: int) -> int:
    """From low to high, small values more often: the reciprocal is uniform to the square root."""
    share = draws.random()
    return int(low * high / (low + (high - low) * (1 - share * share)))


def number_and_name(draws: Draws, plans: list[EcuPlan], pdus: list[PduModel]) -> list[PduModel]:
    """The PDUs with ids and names in place of the stems of their names."""
    names: set[str] = set()
    next_id = [0x03000064 + (plan.ecu.node << 16) for plan in plans]
    named = []
    for pdu in pdus:
        name = pdu.name if pdu.name == TERMINAL_STATUS else ""
        while not name or name in names:
            name = f"{pdu.name}_{draws.integer(1, 99):02d}"
        names.add(name)
        named.append(replace(pdu, pdu_id=next_id[pdu.ecu], name=name))
        next_id[pdu.ecu] += draws.integer(1, 8)
    return named
