"""Vehicle files with something wrong are refused in one sentence with the file and the key's path."""

from pathlib import Path

import pytest

from ecustream.errors import ConfigError
from tests.training.vehicle_files import MINIMAL, RICH, loaded
from training.simulate.vehicle_file import load_vehicle


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "cycle_ms = 20",
            "cycle_ms = 21",
            r"pdu\[0\].cycle_ms \(ESC_50\): 21 ms is no multiple of 5 ms, the raster of HCP1",
        ),
        (
            "cycle_ms = 20",
            "cycle_ms = 0",
            r"pdu\[0\].cycle_ms \(ESC_50\): must be a number above 0 up to 3,600,000",
        ),
        ("cycle_ms = 20", "cycle_ms = nan", r"pdu\[0\].cycle_ms \(ESC_50\): must be a number above 0"),
        (
            "cycle_ms = 20",
            "cycle_ms = 1e-9",
            r"pdu\[0\].cycle_ms \(ESC_50\): 1e-09 ms is less than a nanosecond",
        ),
        ("cycle_ms = 20", 'cycle_ms = "20"', r"pdu\[0\].cycle_ms \(ESC_50\): must be a number above 0"),
        ("cycle_ms = 20", "", r"pdu\[0\].cycle_ms \(ESC_50\): is missing; the send_type is cyclic"),
        (
            "cycle_ms = 20",
            "cycl_ms = 20",
            r"pdu\[0\].cycl_ms \(ESC_50\): is no key; did you mean cycle_ms\?",
        ),
        (
            "cycle_ms = 20",
            'cycle_ms = 20\necu = "MIB"',
            r"pdu\[0\].ecu \(ESC_50\): there is no ecu 'MIB'; there are HCP1",
        ),
        (
            "cycle_ms = 20",
            'cycle_ms = 20\nmode = "x"',
            r"pdu\[0\].mode \(ESC_50\): there is no mode 'x'; the file has none",
        ),
        (
            "cycle_ms = 20",
            'cycle_ms = 20\nsockets = ["x"]',
            r"pdu\[0\].sockets \(ESC_50\): there is no socket 'x'",
        ),
        (
            "cycle_ms = 20",
            "cycle_ms = 20\nsockets = []",
            r"pdu\[0\].sockets \(ESC_50\): must be one to four different sockets",
        ),
        (
            "cycle_ms = 20",
            "cycle_ms = 20\nphase_ms = inf",
            r"pdu\[0\].phase_ms \(ESC_50\): must be .* but is inf",
        ),
        (
            "cycle_ms = 20",
            "cycle_ms = 20\nevent_interval_ms = 99\nrepetition_ms = 1e-9",
            r"pdu\[0\].repetition_ms \(ESC_50\): 1e-09 ms is less",
        ),
        (
            "cycle_ms = 20",
            "cycle_ms = 20\nlength = 1394",
            r"pdu\[0\].length \(ESC_50\): 1,394 bytes and their header of 8 do not fit into a datagram",
        ),
        (
            "cycle_ms = 20",
            f'cycle_ms = 20\nconstant = "{"00" * 1394}"',
            r"pdu\[0\].constant \(ESC_50\): 1,394 bytes and their header of 8 do not fit",
        ),
        (
            "cycle_ms = 20",
            'role = "sd"\nconstant = "0000000000000000"',
            r"pdu\[0\].constant \(ESC_50\): must be 12 bytes or more for the role sd",
        ),
        (
            "cycle_ms = 20",
            'cycle_ms = 20\nsignals = ["speed"]',
            r"pdu\[0\].signals\[0\] \(ESC_50\): must be a table, but is 'speed'",
        ),
        (
            "cycle_ms = 20",
            "cycle_ms = 20\nlength = 9",
            r"pdu\[0\].length \(ESC_50\): must be an even number from 8 up to 1,400",
        ),
        (
            "cycle_ms = 20",
            "cycle_ms = 20\nlength = 1402",
            r"pdu\[0\].length \(ESC_50\): must be an even number from 8",
        ),
        (
            "cycle_ms = 20",
            'cycle_ms = 20\nconstant = "00"',
            r"pdu\[0\].constant \(ESC_50\): must be an even number of bytes from 8 .* but is 1",
        ),
        (
            "cycle_ms = 20",
            'cycle_ms = 20\nconstant = "xy"',
            r"pdu\[0\].constant \(ESC_50\): must be pairs of hexadecimal digits",
        ),
        (
            "cycle_ms = 20",
            "cycle_ms = 20\nphase_ms = 20",
            r"pdu\[0\].phase_ms \(ESC_50\): must be less than the cycle of 20 ms",
        ),
        (
            "cycle_ms = 20",
            "cycle_ms = 20\nfast_cycle_ms = 5",
            r"pdu\[0\].mode \(ESC_50\): is missing; fast_cycle_ms needs one",
        ),
        (
            "cycle_ms = 20",
            'cycle_ms = 20\nrole = "x"',
            r"pdu\[0\].role \(ESC_50\): must be one of com, .* request",
        ),
        (
            "cycle_ms = 20",
            'cycle_ms = 20\nrole = "sync"',
            r"pdu\[0\].sockets \(ESC_50\): HCP1 has no socket of layout gptp",
        ),
        (
            "cycle_ms = 20",
            'cycle_ms = 20\nreplies_to = "x"',
            r"pdu\[0\].replies_to \(ESC_50\): is for PDUs of the role reply",
        ),
        (
            "cycle_ms = 20",
            'role = "reply"\nreplies_to = "x"',
            r"pdu\[0\].replies_to \(ESC_50\): there is no request 'x'",
        ),
        (
            "cycle_ms = 20",
            "cycle_ms = 20\nforwarded = true",
            r"pdu\[0\].forwarded \(ESC_50\): is for cyclic PDUs of a gateway",
        ),
        (
            "cycle_ms = 20",
            "cycle_ms = 20\nrepetitions = 2",
            r"pdu\[0\].repetitions \(ESC_50\): is for PDUs of COM with",
        ),
        (
            "cycle_ms = 20",
            "cycle_ms = 20\nsignals = []",
            r"pdu\[0\].signals \(ESC_50\): must be 3 signals in different bytes from 0 to 7",
        ),
        (
            "cycle_ms = 20",
            "cycle_ms = 20\nsignals = [{byte = 1}]",
            r"pdu\[0\].signals\[0\].step_ms \(ESC_50\): is missing",
        ),
        (
            "id = 0x03100065",
            "id = 0x03100064",
            r"pdu\[1\].id \(Motor_54\): 0x03100064 is the id of ESC_50 on the socket HCP1-0",
        ),
        ("id = 0x03100064", "", r"pdu\[0\].id \(ESC_50\): is missing"),
        (
            "id = 0x03100064",
            "id = 4294967296",
            r"pdu\[0\].id \(ESC_50\): must be a whole number from 0 up to 4,294,967,295",
        ),
        ('"Motor_54"', '"ESC_50"', r"pdu\[1\].name: ESC_50 is the name of an earlier pdu"),
        ('name = "HCP1"', "", r"ecu\[0\].name: is missing; it must be a text that is not empty"),
        ('name = "HCP1"', 'name = "HCP1"\nmac = "x"', r"ecu\[0\].mac \(HCP1\): 'x' is no unicast address"),
        (
            'name = "HCP1"',
            'name = "HCP1"\nnode = 255',
            r"ecu\[0\].node \(HCP1\): must be a whole number from 1 up to 254",
        ),
        (
            'name = "HCP1"',
            'name = "HCP1"\nanchor_ms = 5',
            r"ecu\[0\].anchor_ms \(HCP1\): must be less than the raster",
        ),
        (
            'name = "HCP1"',
            'name = "HCP1"\n[[ecu]]\nname = "B"',
            r"socket\[0\].ecu: is missing; there are HCP1, B",
        ),
        ("vlan = 3", "vlan = 4095", r"socket\[0\].vlan: must be a whole number from 0 up to 4,094"),
        (
            "vlan = 3",
            "source_port = 0",
            r"socket\[0\].source_port: must be a whole number from 1 up to 65,535",
        ),
        ("vlan = 3", 'source = "a"', r"socket\[0\].source: 'a' is no IPv6 or IPv4 address"),
        ("vlan = 3", 'source = "fe80::1%eth0"', r"socket\[0\].source: .* has a zone"),
        ("vlan = 3", 'source = "ff14::1"', r"socket\[0\].source: ff14::1 is a multicast address"),
        (
            "vlan = 3",
            'source = "::1"\ndestination = "1.2.3.4"',
            r"socket\[0\].destination: .* not of the same IP",
        ),
        ("vlan = 3", 'layout = "gptp"\nvlan = 3', r"socket\[0\]: frames of gPTP have no VLAN"),
        (
            "vlan = 3",
            'layout = "none"',
            r"pdu\[1\].sockets \(Motor_54\): HCP1-0 has the layout none, so it carries one PDU, ESC_50",
        ),
        (
            "vlan = 3",
            "vlan = 3\n[[socket]]\nvlan = 3",
            r"socket\[1\]: HCP1-0 has the same sender, VLAN, addresses and ports",
        ),
        (
            "[[ecu]]",
            "[[vehicle]]\n[[ecu]]",
            r"vehicle: must be one table that begins with \[vehicle\], but is a list",
        ),
        ("[[ecu]]", "'pdu[9]' = 1\n[[ecu]]", r"pdu\[9\]: is no key; there are ecu"),
        ("[[ecu]]", f"a = {'9' * 5000}\n[[ecu]]", r"is not TOML: "),
        ("[[ecu]]", f"a = {'[' * 5000}\n[[ecu]]", r"is nested too deep"),
        ("[[ecu]]", "[ecu]", r"ecu: must be tables that begin with \[\[ecu\]\], but is a single table"),
        ("[[ecu]]", "wheels = 4\n[[ecu]]", r"wheels: is no key; there are ecu, socket, mode, pdu, vehicle"),
        ("vlan = 3", "vlan =", r"is not TOML: Invalid value \(at line 6"),
    ],
)
def test_what_is_wrong_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    """Each wrong value is refused in a sentence with the file, the key's path and what is allowed."""
    with pytest.raises(ConfigError, match=rf"^{tmp_path}/car.toml: {message}") as refused:
        loaded(tmp_path, MINIMAL.replace(old, new, 1))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "gateway = true\n",
            "",
            r"pdu\[1\].sockets \(Blinkmodi_02\): hcp1-v3 is a socket of HCP1, which is no gateway",
        ),
        (
            "cycle_ms = 100\ngroup = 1",
            "cycle_ms = 200\ngroup = 1",
            r"pdu\[4\].group \(Klemmen_Status_02\): Klemmen_Status_01 is in it too, but with another",
        ),
        ("group = 1", "group = 2", None),
        (
            'role = "sync"',
            'role = "sync"\nlength = 46',
            r"pdu\[6\].length \(Sync\): must be 44 bytes for the role sync",
        ),
        ('role = "nm"', 'role = "nm"\nlength = 1400', None),
        ("2500.5\n", "2500.5\nlength = 1392\n", None),
        ("raster_ms = 10", 'mac = "02:00:5E:00:00:AB"', None),
        (
            '"GetStatus_Req"\nsockets',
            '"Sync"\nsockets',
            r"pdu\[8\].replies_to \(GetStatus_Resp\): there is no request 'Sync'",
        ),
        ("2500.5\n", "2500.5\ngroup = 1\n", r"pdu\[2\].group \(Licht_01\): is for PDUs that have a cycle"),
        (
            '["mib-call"]',
            '["mib-call", "mib-v5"]',
            r"pdu\[7\].sockets \(GetStatus_Req\): must be one for a request",
        ),
        (
            '["hcp1-service"]',
            '["hcp1-service"]\nlatency_ms = [3, 2]',
            r"pdu\[8\].latency_ms \(GetStatus_Resp\): the longest one is less",
        ),
        (
            "announces = true",
            'send_type = "cyclic"\nannounces = true',
            r"pdu\[0\].announces \(Blinkmodi_01\): is for the send_type mixed, and this is cyclic",
        ),
        (
            'role = "nm"',
            'role = "nm"\nsend_type = "event"',
            r"pdu\[5\].send_type \(NM_HCP1\): must be cyclic for the role nm",
        ),
        (
            'mode = "blinking"\nannounces = true',
            'mode = "blinking"',
            r"pdu\[0\].mode \(Blinkmodi_01\): needs fast_cycle_ms, or announces = true",
        ),
        ("raster_ms = 10", "raster_ms = 10\nnode = 16", None),
        (
            "raster_ms = 10",
            "raster_ms = 30",
            r"pdu\[1\].cycle_ms \(Blinkmodi_02\): 1000 ms is no multiple of 30 ms, the raster of MIB",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    tmp_path: Path, old: str, new: str, message: str | None
) -> None:
    """Values that contradict each other are refused; those that do not are taken."""
    text = RICH.replace(old, new, 1)
    assert text != RICH
    if message is None:
        loaded(tmp_path, text)
    else:
        with pytest.raises(ConfigError, match=message):
            loaded(tmp_path, text)


def test_more_ecus_than_nodes(tmp_path: Path) -> None:
    """ECUs without a node get one each until there is none left."""
    ecus = "".join(f'[[ecu]]\nname = "E{number}"\n' for number in range(239))
    rest = MINIMAL.partition("[[socket]]")[2].replace("[[pdu]]", '[[pdu]]\necu = "E0"')
    text = f'{ecus}[[ecu]]\nname = "E239"\n[[socket]]\necu = "E0"{rest}'
    with pytest.raises(ConfigError, match=r"ecu\[239\] \(E239\): all nodes from 16 to 254 are taken"):
        loaded(tmp_path, text)
    assert len(loaded(tmp_path, text.replace('"E239"', '"E239"\nnode = 1')).ecus) == 240


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file and one that is not text are refused by name; so is a negative seed."""
    with pytest.raises(ConfigError, match=r"none.toml: cannot be read: No such file"):
        load_vehicle(tmp_path / "none.toml", 0)
    (tmp_path / "bytes.toml").write_bytes(b"a\xff")
    with pytest.raises(ConfigError, match=r"bytes.toml: is not UTF-8 at byte 1"):
        load_vehicle(tmp_path / "bytes.toml", 0)
    (tmp_path / "empty.toml").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"empty.toml: a vehicle has at least one \[\[ecu\]\]"):
        load_vehicle(tmp_path / "empty.toml", 0)
    with pytest.raises(ConfigError, match="--seed -1"):
        load_vehicle(tmp_path / "empty.toml", -1)
