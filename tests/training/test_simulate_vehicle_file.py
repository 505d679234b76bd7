"""Vehicle files: what is written is read again, and little is enough."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import training.simulate
from tests.training.vehicle_files import MINIMAL, RICH, loaded
from training.simulate.draw import draw_vehicle
from training.simulate.simulation import Simulation
from training.simulate.vehicle import ModeModel
from training.simulate.vehicle_file import load_vehicle, vehicle_toml

MS = 1_000_000
EXAMPLE = Path(training.simulate.__file__).parent / "example_vehicle.toml"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["bench", "hcp", "domain"]), st.integers(0, 2**40))
def test_round_trip(tmp_path: Path, preset: str, seed: int) -> None:
    """A drawn vehicle is written and read again as exactly the same."""
    vehicle = draw_vehicle(preset, seed)
    assert loaded(tmp_path, vehicle_toml(vehicle), seed) == vehicle


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    times_ns=st.lists(st.integers(100 * MS, 1_500 * MS), min_size=3, max_size=3),
    drift_ppb=st.integers(-10_000_000, 10_000_000),
    mean_ns=st.integers(1, 68_000 * MS),
    name=st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1),
)
def test_round_trip_of_odd_values(
    tmp_path: Path, times_ns: list[int], drift_ppb: int, mean_ns: int, name: str
) -> None:
    """Times of any nanosecond and names of any characters survive."""
    vehicle = loaded(tmp_path, RICH)
    ecu = replace(vehicle.ecus[0], start_delay_ns=times_ns[0], drift_ppb=drift_ppb)
    pdu = replace(vehicle.pdus[0], stop_delay_ns=times_ns[1], name=f"{name}\x7f")
    vehicle = replace(
        vehicle,
        name=name,
        ecus=(ecu, *vehicle.ecus[1:]),
        pdus=(pdu, *vehicle.pdus[1:]),
        modes=(ModeModel(name, mean_ns, times_ns[2]),),
    )
    assert loaded(tmp_path, vehicle_toml(vehicle)) == vehicle


def test_little_is_enough(tmp_path: Path) -> None:
    """One ECU, one socket and PDUs with id, name and cycle are a vehicle that sends."""
    vehicle = loaded(tmp_path, MINIMAL)
    assert [(pdu.name, pdu.pdu_id, pdu.cycle_ns) for pdu in vehicle.pdus] == [
        ("ESC_50", 0x03100064, 20 * MS),
        ("Motor_54", 0x03100065, 100 * MS),
        ("VMM_02", 0x03100066, 1000 * MS),
    ]
    assert all((pdu.send_type, pdu.sockets, pdu.length) == ("cyclic", (0,), 8) for pdu in vehicle.pdus)
    (socket,) = vehicle.sockets
    assert (socket.source, socket.destination) == ("fd53:7cb8:383:3::10", "ff14::3:7f")
    sent = sum(len(batch.pdu) for batch in Simulation(vehicle, 10, drive=1).batches())
    assert sent == pytest.approx(10 * (50 + 10 + 1), rel=0.02)


def test_what_is_left_open_is_drawn(tmp_path: Path) -> None:
    """The seed draws what the file leaves open, and nothing that it says."""
    one, same, other = (loaded(tmp_path, MINIMAL, seed) for seed in (1, 1, 2))
    assert one == same
    assert [pdu.cycle_ns for pdu in one.pdus] == [pdu.cycle_ns for pdu in other.pdus]
    assert one.ecus[0].drift_ppb != other.ecus[0].drift_ppb
    assert [pdu.phase for pdu in one.pdus] != [pdu.phase for pdu in other.pdus]
    assert [pdu.constant for pdu in one.pdus] != [pdu.constant for pdu in other.pdus]
    fixed = loaded(tmp_path, MINIMAL.replace('"HCP1"', '"HCP1"\ndrift_ppm = 12.5'), 1)
    assert fixed.ecus[0] == replace(one.ecus[0], drift_ppb=12_500)
    assert fixed.pdus == one.pdus


def test_kinds_of_pdus_by_hand(tmp_path: Path) -> None:
    """What a PDU's keys say about it decides on its send type, and roles on what is usual for them."""
    vehicle = loaded(tmp_path, RICH)
    pdus = {pdu.name: pdu for pdu in vehicle.pdus}
    assert (vehicle.name, vehicle.source) == ("by hand", "ETH2")
    assert {name: pdu.send_type for name, pdu in pdus.items()} == {
        "Blinkmodi_01": "mixed",
        "Blinkmodi_02": "mode",
        "Licht_01": "event",
        "Klemmen_Status_01": "cyclic",
        "Klemmen_Status_02": "cyclic",
        "NM_HCP1": "cyclic",
        "Sync": "cyclic",
        "GetStatus_Req": "event",
        "GetStatus_Resp": "event",
        "SD_HCP1": "cyclic",
    }
    assert pdus["Licht_01"].event_interval_ns == 2_500_500_000
    assert pdus["Klemmen_Status_01"].phase == pdus["Klemmen_Status_02"].phase
    assert (pdus["NM_HCP1"].cycle_ns, pdus["NM_HCP1"].constant[1], pdus["NM_HCP1"].trigger) == (
        500 * MS,
        16,
        True,
    )
    assert (pdus["Sync"].cycle_ns, pdus["Sync"].length) == (125 * MS, 44)
    assert vehicle.pdus[pdus["GetStatus_Resp"].replies_to or 0].name == "GetStatus_Req"
    assert pdus["SD_HCP1"].pdu_id == 0xFFFF8100
    assert b"\x12\x34" in pdus["SD_HCP1"].constant
    assert vehicle.sockets[0].collect_ns == 2_500_000
    assert loaded(tmp_path, vehicle_toml(vehicle)) == vehicle


def test_example_shows_all_kinds_of_pdus_and_sends_them() -> None:
    """The example that comes with the simulator has PDUs of every kind, and each is sent within seconds."""
    vehicle = load_vehicle(EXAMPLE)
    assert {pdu.send_type for pdu in vehicle.pdus} == {"cyclic", "mixed", "mode", "event"}
    assert {pdu.role for pdu in vehicle.pdus} == {"com", "request", "reply", "nm", "sd"}
    assert len({socket.vlan for socket in vehicle.sockets}) == 2
    assert any(socket.collect_ns for socket in vehicle.sockets)
    batches = list(Simulation(vehicle, 2).batches())
    assert {pdu for batch in batches for pdu in batch.pdu.tolist()} == set(range(len(vehicle.pdus)))


def test_file_of_an_editor_on_windows(tmp_path: Path) -> None:
    """A byte order mark and carriage returns do no harm."""
    path = tmp_path / "car.toml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert load_vehicle(path) == loaded(tmp_path, MINIMAL)
