"""Fill the PDUs of a vehicle file: phases, payloads and signals, drawn where they are left open."""

from dataclasses import replace

from training.draws import Draws
from training.simulate.collect import MAX_DATAGRAM_BYTES, PDU_HEADER_BYTES
from training.simulate.contents import (
    draw_constant,
    draw_signals,
    nm_constant,
    offers_of,
    service_constant,
)
from training.simulate.conventions import GPTP_LENGTHS
from training.simulate.vehicle import SIGNALS, EcuModel, PduModel, Vehicle
from training.simulate.vehicle_file_errors import RefusedError
from training.simulate.vehicle_file_tables import PduTable
from training.simulate.vehicle_file_values import MS, activations, to_ns

__all__ = ["check_lengths", "fill_contents", "fill_offers"]

USUAL_LENGTH = 8
# Up to the flags of service discovery, which change.
LEAST_SD_LENGTH = 12


def fill_contents(pdu: PduModel, table: PduTable, ecu: EcuModel, seed: int, key: str) -> PduModel:
    """A PDU with phase, payload and signals; of service offers, `fill_offers` makes the payload."""
    draws = Draws("vehicle file", seed, "pdu", pdu.name)
    constant = _given_constant(table, key)
    if constant is None:
        constant = _usual_constant(draws, pdu, table, ecu)
    phase = _phase(pdu, table, ecu, seed, key)
    pdu = replace(pdu, length=len(constant), constant=constant, phase=phase)
    return replace(pdu, signals=_signals(draws, pdu, table, key))


def _given_constant(table: PduTable, key: str) -> bytes | None:
    if table.constant is None:
        return None
    key = f"{key}.constant"
    try:
        constant = bytes.fromhex(table.constant)
    except ValueError:
        raise RefusedError(key, "must be pairs of hexadecimal digits, such as 00FF0040") from None
    if table.length not in (None, len(constant)):
        raise RefusedError(key, f"has {len(constant)} bytes, but the length is {table.length}")
    if not 8 <= len(constant) <= MAX_DATAGRAM_BYTES or len(constant) % 2:
        raise RefusedError(
            key, f"must be an even number of bytes from 8 to {MAX_DATAGRAM_BYTES:,}, but is {len(constant)}"
        )
    return constant


def _usual_constant(draws: Draws, pdu: PduModel, table: PduTable, ecu: EcuModel) -> bytes:
    length = table.length or GPTP_LENGTHS.get(pdu.role, USUAL_LENGTH)
    match pdu.role:
        case "com":
            return draw_constant(draws, length)
        case "nm":
            return nm_constant(ecu.node, length)
        case "request" | "reply":
            return service_constant(pdu.role, length)
    return bytes(length)


def _signals(draws: Draws, pdu: PduModel, table: PduTable, key: str) -> tuple[tuple[int, int, int, int], ...]:
    if pdu.role != "com":
        if table.signals is not None:
            raise RefusedError(f"{key}.signals", "is for PDUs of the role com")
        return ()
    if table.signals is None:
        return draw_signals(draws, pdu.length)
    places = {signal.byte for signal in table.signals}
    if len(table.signals) != SIGNALS or len(places) < SIGNALS or max(places) >= pdu.length:
        raise RefusedError(
            f"{key}.signals", f"must be {SIGNALS} signals in different bytes from 0 to {pdu.length - 1}"
        )
    return tuple((s.byte, to_ns(s.step_ms, MS), s.amplitude, s.offset) for s in table.signals)


def _phase(pdu: PduModel, table: PduTable, ecu: EcuModel, seed: int, key: str) -> int:
    if pdu.cycle_ns is None:
        if table.phase_ms is not None:
            raise RefusedError(f"{key}.phase_ms", "is for PDUs that have a cycle")
        return 0
    cycle = pdu.cycle_ns // ecu.raster_ns
    if table.phase_ms is None:
        # PDUs of a group have their phase in common.
        owner = pdu.name if pdu.group is None else pdu.group
        return Draws("vehicle file", seed, "phase", owner).integer(0, cycle - 1)
    phase = activations(table.phase_ms, ecu, f"{key}.phase_ms")
    if phase >= cycle:
        raise RefusedError(f"{key}.phase_ms", f"must be less than the cycle of {pdu.cycle_ns / MS:g} ms")
    return phase


def fill_offers(vehicle: Vehicle, tables: list[PduTable]) -> Vehicle:
    """The vehicle with what PDUs of service discovery offer, where their tables do not say so."""
    pdus = list(vehicle.pdus)
    for index, (pdu, table) in enumerate(zip(vehicle.pdus, tables, strict=True)):
        if pdu.role != "sd" or table.constant is not None:
            continue
        if not any(other.role == "reply" and other.ecu == pdu.ecu for other in pdus):
            ecu = vehicle.ecus[pdu.ecu].name
            raise RefusedError(f"pdu[{index}].constant", f"is missing; {ecu} has no replies to offer")
        constant = offers_of(vehicle, pdu.ecu)
        if table.length not in (None, len(constant)):
            raise RefusedError(f"pdu[{index}].length", f"must be {len(constant)} bytes for what it offers")
        pdus[index] = replace(pdu, constant=constant, length=len(constant))
    return replace(vehicle, pdus=tuple(pdus))


def check_lengths(vehicle: Vehicle, tables: list[PduTable]) -> None:
    """Refuse PDUs that fit no datagram, or not what is written into them."""
    for index, (pdu, table) in enumerate(zip(vehicle.pdus, tables, strict=True)):
        key = f"pdu[{index}].{'length' if table.constant is None else 'constant'}"
        has_header = any(vehicle.sockets[socket].layout == "soad" for socket in pdu.sockets)
        if has_header and pdu.length > MAX_DATAGRAM_BYTES - PDU_HEADER_BYTES:
            raise RefusedError(
                key,
                f"{pdu.length:,} bytes and their header of {PDU_HEADER_BYTES} do not fit into a datagram"
                f" of {MAX_DATAGRAM_BYTES:,}",
            )
        if pdu.role in GPTP_LENGTHS and pdu.length != GPTP_LENGTHS[pdu.role]:
            raise RefusedError(key, f"must be {GPTP_LENGTHS[pdu.role]} bytes for the role {pdu.role}")
        if pdu.role == "sd" and pdu.length < LEAST_SD_LENGTH:
            raise RefusedError(key, f"must be {LEAST_SD_LENGTH} bytes or more for the role sd")
