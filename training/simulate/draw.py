"""Draw a vehicle at random: how many PDUs with which cycles, who sends them, what they are called."""

import zlib
from dataclasses import dataclass, replace

import numpy as np

from ecustream.errors import ConfigError
from training.simulate.vehicle import SIGNALS, VLAN, EcuModel, PduModel, SendType, Vehicle

__all__ = ["PRESETS", "Preset", "draw_vehicle"]

MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Preset:
    """Size of a vehicle."""

    pdus: int
    ecus: int


PRESETS = {
    "bench": Preset(pdus=20, ecus=2),
    "hcp": Preset(pdus=100, ecus=1),
    "domain": Preset(pdus=200, ecus=6),
    "vehicle": Preset(pdus=400, ecus=12),
}

# Per cent of the PDUs by cycle in ms; between the cycle attributes of a public Ford database and those of
# the SecVI vehicle model. A 5 ms PDU makes a fifth of a bench's traffic.
CYCLE_SHARES = {
    5: 1,
    10: 8,
    20: 16,
    30: 2,
    40: 4,
    50: 9,
    80: 3,
    100: 17,
    120: 3,
    160: 5,
    200: 14,
    500: 10,
    1000: 6,
    2000: 2,
}
EVENT_SHARE = 0.07
MIXED_SHARE = 0.20
# What goes out on change would be slow otherwise; events take the place of cyclic PDUs of that kind.
ON_CHANGE_MIN_CYCLE_MS = 50
LENGTH_SHARES = {8: 75, 16: 10, 24: 4, 32: 6, 48: 3, 64: 2}

# Rounds the shares so that even a bench has a 5 ms PDU, which brings it to its usual rate.
SHARE_ROUNDING = 0.85
FORWARDED_SHARE = 0.12
FORWARDED_MIN_CYCLE_NS = 10 * MS

# fmt: off
NAME_STEMS = (
    "ESC", "ESP", "Motor", "VMM", "Kombi", "Airbag", "Klemmen_Status", "Getriebe", "LWI", "EPS",
    "Blinkmodi", "Licht", "Klima", "Tuer", "Gateway", "ACC", "GRA", "HCA", "AWV", "Parkhilfe",
    "Spiegel", "Sitz", "Batterie", "Lader", "Thermo", "EM1", "EM2", "QFK", "Charisma", "Diagnose",
    "Systeminfo", "Dimmung", "Wischer", "Regensensor", "Navi", "Kamera", "Radar",
    "Fahrwerk", "Allrad", "Reifen",
)
# fmt: on


def draw_vehicle(preset: str = "bench", vehicle_seed: int = 0) -> Vehicle:
    """Draw the vehicle `vehicle_seed` of a preset; the same arguments give the same vehicle.

    Args:
        preset: a key of `PRESETS`: `bench` (20 PDUs, 2 ECUs, about 0.6 k PDU/s), `hcp` (100, 1, 2.5 k),
            `domain` (200, 6, 5 k) or `vehicle` (400, 12, 10 k).
        vehicle_seed: which vehicle of that size, 0 or more.

    Raises:
        ConfigError: the preset is unknown or the seed negative.
    """
    if preset not in PRESETS:
        raise ConfigError(f"--preset {preset}: no such preset, there are {', '.join(PRESETS)}")
    if vehicle_seed < 0:
        raise ConfigError(f"--vehicle-seed {vehicle_seed}: a seed is 0 or more")
    size = PRESETS[preset]
    rng = np.random.Generator(np.random.PCG64([vehicle_seed, zlib.crc32(preset.encode())]))

    cycles_ms = _apportion(CYCLE_SHARES, size.pdus, SHARE_ROUNDING)
    slow = [rank for rank, cycle_ms in enumerate(cycles_ms) if cycle_ms >= ON_CHANGE_MIN_CYCLE_MS]
    event_count, mixed_count = round(size.pdus * EVENT_SHARE), round(size.pdus * MIXED_SHARE)
    on_change = rng.choice(slow, event_count + mixed_count, replace=False).tolist()
    send_types: dict[int, SendType] = dict.fromkeys(on_change[:event_count], "event")
    send_types |= dict.fromkeys(on_change[event_count:], "mixed")
    senders = _deal(rng, size)
    ecus = _draw_ecus(rng, size, {senders[rank] for rank, cycle_ms in enumerate(cycles_ms) if cycle_ms % 10})

    pdus = [
        _draw_pdu(rng, send_types.get(rank, "cyclic"), cycle_ms * MS, senders[rank], ecus[senders[rank]])
        for rank, cycle_ms in enumerate(cycles_ms)
    ]
    order = rng.permutation(size.pdus).tolist()
    by_sender = sorted((pdus[rank] for rank in order), key=lambda pdu: pdu.ecu)
    return Vehicle(preset, vehicle_seed, ecus, tuple(_named(rng, by_sender, ecus)))


def _apportion(shares: dict[int, int], count: int, rounding: float) -> list[int]:
    """`count` items in the given shares of 100, in the order of `shares`.

    `rounding` in [0, 1) moves the limits between items: the more, the more of the first ones.
    """
    items: list[int] = []
    cumulated = 0
    for item, share in shares.items():
        cumulated += share
        upto = min(count, int(count * cumulated / 100 + rounding)) if cumulated < 100 else count
        items += [item] * (upto - len(items))
    return items


def _deal(rng: np.random.Generator, size: Preset) -> list[int]:
    """The sender of each PDU, fastest first: every other round evenly, so that each ECU has fast PDUs."""
    weights = rng.dirichlet(np.full(size.ecus, 2.0))
    senders: list[int] = []
    while len(senders) < size.pdus:
        even = len(senders) // size.ecus % 2 == 0
        round_ = rng.permutation(size.ecus) if even else rng.choice(size.ecus, size.ecus, p=weights)
        senders += round_.tolist()
    return senders[: size.pdus]


def _draw_ecus(rng: np.random.Generator, size: Preset, need_5_ms: set[int]) -> tuple[EcuModel, ...]:
    nodes = sorted((0x10 + rng.choice(0x60, size.ecus, replace=False)).tolist())
    # At least one collects and, with several ECUs, at least one does not.
    collecting = rng.permutation(size.ecus) < max(1, size.ecus // 2)
    ecus = []
    for index, node in enumerate(nodes):
        raster_ns = (5 if index in need_5_ms or rng.random() < 0.5 else 10) * MS
        ecus.append(
            EcuModel(
                node=node,
                address=f"fd53:7cb8:383:{VLAN}::{node:x}",
                mac=f"02:00:00:00:00:{node:02x}",
                raster_ns=raster_ns,
                anchor_ns=int(rng.integers(raster_ns)),
                drift_ppb=int(rng.integers(-100_000, 100_001)),
                jitter_sigma_ns=int(rng.integers(5_000, 100_001)),
                gap_ns=int(rng.integers(10_000, 40_001)),
                collects=bool(collecting[index]),
            )
        )
    return tuple(ecus)


def _draw_pdu(
    rng: np.random.Generator, send_type: SendType, cycle_ns: int, sender: int, ecu: EcuModel
) -> PduModel:
    forwardable = send_type == "cyclic" and cycle_ns >= FORWARDED_MIN_CYCLE_NS
    event_interval_ns = repetitions = repetition_ms = 0
    if send_type == "mixed":
        event_interval_ns = int(10 ** rng.uniform(9.0, 10.3))
        repetitions, repetition_ms = 3, int(rng.choice([10, 20]))
    elif send_type == "event":
        event_interval_ns = int(10 ** rng.uniform(9.3, 10.3))
        repetitions, repetition_ms = int(rng.integers(2, 7)), int(rng.choice([10, 20, 50]))
    length = int(rng.choice(list(LENGTH_SHARES), p=np.array(list(LENGTH_SHARES.values())) / 100))
    places = 3 + rng.choice(length - 3, SIGNALS, replace=False)
    return PduModel(
        pdu_id=0,
        name="",
        ecu=sender,
        send_type=send_type,
        cycle_ns=None if send_type == "event" else cycle_ns,
        phase=int(rng.integers(cycle_ns // ecu.raster_ns)),
        forwarded=bool(rng.random() < FORWARDED_SHARE) and forwardable,
        event_interval_ns=event_interval_ns,
        repetitions=repetitions,
        repetition_activations=repetition_ms * MS // ecu.raster_ns,
        length=length,
        constant=bytes(rng.choice([0x00, 0x00, 0xFF, 0x40], length).tolist()),
        signals=tuple(
            (
                int(place),
                int(rng.integers(50, 2_000)) * MS,
                int(rng.integers(1, 128)),
                int(rng.integers(256)),
            )
            for place in places
        ),
    )


def _named(rng: np.random.Generator, pdus: list[PduModel], ecus: tuple[EcuModel, ...]) -> list[PduModel]:
    """The same PDUs with ids and names: an ECU's PDUs share a few stems, as a real ECU's do."""
    stem_count = min(len(NAME_STEMS), max(5 * len(ecus), len(pdus) // 8))
    stems = rng.permutation(stem_count).tolist()
    numbers = {stem: iter((1 + rng.permutation(99)).tolist()) for stem in stems}
    named = []
    id_of_ecu = [0x03000000 + ecu.node * 0x10000 + 0x64 for ecu in ecus]
    for pdu in pdus:
        # Stems are dealt round robin, so no ECU is left without one.
        own = stems[pdu.ecu :: len(ecus)][: max(2, len(pdus) // (8 * len(ecus)))]
        stem = own[int(rng.integers(len(own)))]
        name = f"{NAME_STEMS[stem]}_{next(numbers[stem]):02d}"
        named.append(replace(pdu, pdu_id=id_of_ecu[pdu.ecu], name=name))
        id_of_ecu[pdu.ecu] += int(rng.integers(1, 8))
    return named
