"""What vehicles are drawn from: their sizes, and the shares, names and addresses that cars have."""

from dataclasses import dataclass

__all__ = [
    "CLASSIC_STEMS",
    "CYCLE_SHARES",
    "ECU_STEMS",
    "LENGTH_SHARES",
    "METHODS",
    "MODES",
    "PRESETS",
    "SWITCHED_CYCLES_MS",
    "ModeKind",
    "Preset",
]


@dataclass(frozen=True, slots=True)
class Preset:
    """Size of a vehicle.

    Attributes:
        pdus: COM PDUs, requests and replies among them; network management, service discovery and gPTP come
            on top, and so do the requests of a tester.
        ecus: senders, without the tester.
        pdu_rate: PDUs on the wire per second while it drives, copies to further destinations included.
        datagram_rate: their datagrams per second; None: as it comes.
        gateways: how many of the ECUs forward.
        modes: how many modes switch cycles.
        pairs: how many methods are called: pairs of a request and a reply.
        fine_share: share of the ECUs without fast PDUs whose task runs every 5 ms all the same, not every 10.
    """

    pdus: int
    ecus: int
    pdu_rate: int
    datagram_rate: int | None
    gateways: int
    modes: int
    pairs: int
    fine_share: float


PRESETS = {
    "bench": Preset(20, 2, pdu_rate=560, datagram_rate=None, gateways=1, modes=1, pairs=1, fine_share=0.5),
    "hcp": Preset(100, 1, pdu_rate=2_750, datagram_rate=215, gateways=1, modes=3, pairs=2, fine_share=0),
    "domain": Preset(
        200, 6, pdu_rate=5_300, datagram_rate=1_200, gateways=1, modes=4, pairs=3, fine_share=0.1
    ),
    "vehicle": Preset(
        400, 12, pdu_rate=10_800, datagram_rate=2_400, gateways=2, modes=6, pairs=6, fine_share=0.03
    ),
    "large": Preset(
        800, 25, pdu_rate=19_800, datagram_rate=5_000, gateways=2, modes=8, pairs=12, fine_share=0.4
    ),
}

# Per cent of the cyclic PDUs by cycle in ms; between the cycle attributes of a public Ford database and those
# of the SecVI vehicle model.
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
LENGTH_SHARES = {8: 75, 16: 10, 24: 4, 32: 6, 48: 3, 64: 2}

# Cycle while idle and while active, by weight; the first are those of HCA_01, AWV_03 and Blinkmodi_02 (MEB).
SWITCHED_CYCLES_MS = {(1000, 20): 5, (500, 50): 2, (200, 20): 2, (1000, 100): 1}


@dataclass(frozen=True, slots=True)
class ModeKind:
    """A mode, and the stems of the names of the PDUs that it switches; the first one announces it."""

    name: str
    stems: tuple[str, ...]


MODES = (
    ModeKind("lane_keeping", ("HCA", "LDW", "LH_EPS")),
    ModeKind("cruise_control", ("GRA_ACC", "ACC", "TSK")),
    ModeKind("blinking", ("Blinkmodi", "Licht_Anf", "BCM_Blink")),
    ModeKind("parking_aid", ("Parkhilfe", "PLA", "UPA")),
    ModeKind("emergency_braking", ("AWV", "ANB", "Gurtstraffer")),
    ModeKind("boost", ("EM_Boost", "HV_Leistung", "DCDC_Anf")),
    ModeKind("charging", ("Lader", "HVLM", "BMS_Laden")),
    ModeKind("rear_camera", ("RFK", "RVC", "Kamera_Heck")),
)

# ECUs in the order in which vehicles get them, and the stems of the names of their PDUs.
ECU_STEMS: dict[str, tuple[str, ...]] = {
    "HCP1": ("ESC", "ESP", "Motor", "VMM", "QFK", "Fahrwerk", "Charisma", "LWI", "Getriebe", "Allrad", "EML"),
    "GATEWAY": ("Gateway", "Systeminfo", "Diagnose", "Klemme", "VIN", "BEM"),
    "HCP4": ("BCM", "Licht", "Wischer", "ZV", "Dimmung", "Regensensor", "FBS"),
    "ZFAS": ("Objekt", "Radar", "Kamera", "Fahrspur", "EA", "VZE"),
    "MIB": ("Navi", "MIB", "Anzeige", "Audio", "PSD"),
    "BMS": ("BMS", "HV_Batterie", "Zelle", "Isolation"),
    "KOMBI": ("Kombi", "Wegstrecke", "FPK"),
    "HCP2": ("HCP2", "SARA", "Bremsvorgabe", "Trajektorie"),
    "EPS": ("EPS", "Lenkhilfe", "Lenkwinkel"),
    "AIRBAG": ("Airbag", "Rueckhalte", "Gurt"),
    "KLIMA": ("Klima", "Heizung", "Thermo"),
    "OBC": ("OBC", "Ladeport", "LVS"),
    "EM_VORN": ("EM1", "PE1", "Inverter_VA"),
    "EM_HINTEN": ("EM2", "PE2", "Inverter_HA"),
    "HCP3": ("HCP3", "HMI", "Sprache"),
    "OCU": ("OCU", "ECall", "Telematik"),
    "HCP5": ("HCP5", "OTA", "Backend"),
    "RADAR_VORN": ("SRR_V", "MRR", "Zielliste"),
    "KAMERA_VORN": ("MFK", "Spuren", "Verkehrszeichen"),
    "TUER_FS": ("Tuer_FS", "Fenster_FS", "Spiegel_FS"),
    "TUER_BFS": ("Tuer_BFS", "Fenster_BFS", "Spiegel_BFS"),
    "SITZ": ("Sitz", "Memory", "Lordose"),
    "DCDC": ("DCDC", "Bordnetz"),
    "RDK": ("RDK", "Reifen"),
    "THERMO": ("TME", "Kuehlung", "Pumpe"),
}

# Stems of PDUs from classic buses, which gateways forward.
CLASSIC_STEMS = (
    "Parkbremse", "Daempfer", "AHK", "Dach", "Sirene", "Waehlhebel", "MFL", "Lenksaeule", "Aussentemp",
    "Innenlicht", "Heckklappe", "Zaehler", "Niveau", "Quersperre", "Pedal", "Unterdruck",
)  # fmt: skip
METHODS = (
    "Status", "Config", "Version", "Profile", "Limits", "Position", "Plan", "Counter", "Mode", "Keys",
    "History", "Range",
)  # fmt: skip
