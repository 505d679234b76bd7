"""Vehicle files for tests: one with next to nothing, and one with every kind of PDU."""

from pathlib import Path

from training.simulate.vehicle import Vehicle
from training.simulate.vehicle_file import load_vehicle

__all__ = ["MINIMAL", "RICH", "loaded"]

MINIMAL = """
[[ecu]]
name = "HCP1"

[[socket]]
vlan = 3

[[pdu]]
id = 0x03100064
name = "ESC_50"
cycle_ms = 20

[[pdu]]
id = 0x03100065
name = "Motor_54"
cycle_ms = 100

[[pdu]]
id = 0x03100066
name = "VMM_02"
cycle_ms = 1000
"""

RICH = """
[vehicle]
name = "by hand"
source = "ETH2"

[[ecu]]
name = "HCP1"
gateway = true

[[ecu]]
name = "MIB"
raster_ms = 10

[[socket]]
name = "hcp1-v3"
ecu = "HCP1"
vlan = 3
collect_ms = 2.5

[[socket]]
name = "mib-v5"
ecu = "MIB"
vlan = 5

[[socket]]
name = "hcp1-gptp"
ecu = "HCP1"
layout = "gptp"

[[socket]]
name = "hcp1-nm"
ecu = "HCP1"
vlan = 3
layout = "none"
destination_port = 30500

[[socket]]
name = "hcp1-service"
ecu = "HCP1"
vlan = 3
source_port = 30509
destination = "fd53:7cb8:383:3::11"
destination_port = 40509

[[socket]]
name = "mib-call"
ecu = "MIB"
vlan = 3
source_port = 40509
destination = "fd53:7cb8:383:3::10"
destination_port = 30509

[[mode]]
name = "blinking"
active_s = 5

[[pdu]]
id = 1
name = "Blinkmodi_01"
ecu = "HCP1"
sockets = ["hcp1-v3"]
cycle_ms = 500
mode = "blinking"
announces = true

[[pdu]]
id = 2
name = "Blinkmodi_02"
ecu = "MIB"
sockets = ["mib-v5", "hcp1-v3"]
cycle_ms = 1000
fast_cycle_ms = 20
mode = "blinking"

[[pdu]]
id = 3
name = "Licht_01"
ecu = "HCP1"
sockets = ["hcp1-v3"]
event_interval_ms = 2500.5

[[pdu]]
id = 4
name = "Klemmen_Status_01"
ecu = "HCP1"
sockets = ["hcp1-v3"]
cycle_ms = 100
group = 1

[[pdu]]
id = 5
name = "Klemmen_Status_02"
ecu = "HCP1"
sockets = ["hcp1-v3"]
cycle_ms = 100
group = 1

[[pdu]]
name = "NM_HCP1"
ecu = "HCP1"
role = "nm"
sockets = ["hcp1-nm"]

[[pdu]]
name = "Sync"
ecu = "HCP1"
role = "sync"

[[pdu]]
id = 0x12340001
name = "GetStatus_Req"
ecu = "MIB"
role = "request"
sockets = ["mib-call"]

[[pdu]]
id = 0x12340001
name = "GetStatus_Resp"
ecu = "HCP1"
role = "reply"
replies_to = "GetStatus_Req"
sockets = ["hcp1-service"]

[[pdu]]
name = "SD_HCP1"
ecu = "HCP1"
role = "sd"
sockets = ["hcp1-v3"]
"""


def loaded(folder: Path, text: str, seed: int = 0) -> Vehicle:
    """The vehicle of a file that holds `text`."""
    path = folder / "car.toml"
    path.write_text(text, encoding="utf-8")
    return load_vehicle(path, seed)
