"""Which faults a trace gets: levels, files, clean time, and what cannot be."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.errors import ConfigError
from tests.training.test_simulate_faults import SECOND, VEHICLE
from training.simulate.faults.base import Fault
from training.simulate.faults.kinds import FAULT_KINDS
from training.simulate.faults.plan import plan_faults
from training.simulate.faults.spec import FAULT_LEVELS, ExplicitFault, FaultSpec, read_faults
from training.simulate.scenario import Day, Phase


def plan(spec: FaultSpec, seconds: float = 600, drive: int = 0) -> list[Fault]:
    """The faults of a trace in which the handmade vehicle drives all the time."""
    day = Day(VEHICLE, (Phase("drive", 0, round(seconds * SECOND)),), drive)
    return plan_faults(VEHICLE, day, seconds, drive, spec)


def facts(faults: list[Fault]) -> list[tuple[str, int, int, float]]:
    """What tells faults apart."""
    return [(fault.kind, fault.at_ns, fault.until_ns, fault.size) for fault in faults]


def read(folder: Path, text: str) -> FaultSpec:
    """A fault file's content."""
    path = folder / "faults.toml"
    path.write_text(text)
    return read_faults(str(path))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["light", "heavy"]))
def test_clean_time_around_faults(drive: int, level: str) -> None:
    """The first 5 s, the last second, and at least a second between two faults are clean."""
    faults = plan(read_faults(level), 200.5, drive)
    assert faults
    ends_ns = [4 * SECOND, *(fault.until_ns for fault in faults)]
    starts_ns = [*(fault.at_ns for fault in faults), round(200.5 * SECOND)]
    assert all(start - end >= SECOND for end, start in zip(ends_ns, starts_ns, strict=True))


@pytest.mark.parametrize("level", ["light", "heavy"])
def test_number_of_faults(level: str) -> None:
    """Faults come about once per mean time of the level, of all kinds and severities; 1 in 8 is a control."""
    mean_s = FAULT_LEVELS[level]
    assert mean_s
    faults = plan(read_faults(level), 500 * mean_s)
    assert len(faults) == pytest.approx(500, rel=0.1)
    assert {fault.kind for fault in faults} == set(FAULT_KINDS)
    assert {fault.severity for fault in faults} == {1, 2, 3, 4}
    controls = sum(fault.category is None for fault in faults)
    assert controls / len(faults) == pytest.approx(1 / 8, abs=0.05)
    if level == "heavy":
        assert all(fault.until_ns - fault.at_ns <= 15 * SECOND for fault in faults)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 100), st.floats(6, 200), st.sampled_from(["light", "heavy"]))
def test_longer_trace_begins_with_the_faults_of_a_shorter(drive: int, seconds: float, level: str) -> None:
    """The length of a trace changes none of its faults."""
    short = facts(plan(read_faults(level), seconds, drive))
    assert facts(plan(read_faults(level), 260, drive))[: len(short)] == short


def test_no_faults() -> None:
    """`none` plans nothing."""
    assert plan(read_faults("none")) == []


def test_only_while_driving() -> None:
    """Faults keep away from start-up and shutdown, but for a PDU that is sent on after it."""
    phases = [("startup", 10), ("drive", 40), ("shutdown", 20), ("asleep", 10)] * 5
    ends = [sum(length for _, length in phases[: i + 1]) for i in range(len(phases))]
    day = Day(
        VEHICLE,
        tuple(
            Phase(kind, (end - length) * SECOND, end * SECOND)  # type: ignore[arg-type]
            for (kind, length), end in zip(phases, ends, strict=True)
        ),
        0,
    )
    spec = FaultSpec(every_s=3, shares=(("missing", 1), ("wrong_state", 3)), controls=False)
    faults = plan_faults(VEHICLE, day, 400, 0, spec)
    late = [fault for fault in faults if not day.steady(fault.at_ns - SECOND, fault.until_ns + SECOND)]
    assert len(faults) > 20
    assert late
    assert all(fault.edits and fault.edits[0].keeps_on for fault in late)
    assert all(day.activity_at(fault.edits[0].start_ns) == 2 for fault in late)


def test_file(tmp_path: Path) -> None:
    """A file's shares, severities and times are taken; drawn faults keep away from the given ones."""
    spec = read(
        tmp_path,
        """
        every_s = 5
        severities = [1, 2]
        controls = false
        [shares]
        delay = 3
        missing = 1
        payload_freeze = 9
        [[fault]]
        kind = "delay"
        at_s = 12.5
        pdu = "ESC_01"
        size = 1.5
        [[fault]]
        kind = "ecu_stop"
        at_s = 30
        ecu = "HCP2"
        """,
    )
    faults = plan(spec)
    given_ones = [fault for fault in faults if fault.at_ns in (12.5 * SECOND, 30 * SECOND)]
    assert facts(given_ones)[0][::3] == ("delay", 1.5)
    assert given_ones[0].severity == 3
    assert given_ones[1].kind == "ecu_stop"
    drawn = [fault for fault in faults if fault not in given_ones]
    kinds = [fault.kind for fault in drawn]
    assert kinds.count("delay") / len(drawn) == pytest.approx(0.75, abs=0.15)
    assert set(kinds) == {"delay", "missing"}
    assert {fault.severity for fault in drawn} == {1, 2}
    assert all(
        drawn_one.until_ns + SECOND <= one.at_ns or one.until_ns + SECOND <= drawn_one.at_ns
        for drawn_one in drawn
        for one in given_ones
    )


def test_drawn_faults_keep_away_from_given_ones() -> None:
    """A second is clean between a given fault and those that are drawn, wherever they fall."""
    given_ones = tuple(ExplicitFault("missing", 20.0 + 7 * i, "ESC_01", 3) for i in range(50))
    spec = FaultSpec(every_s=2, shares=(("delay", 1), ("missing", 1)), controls=False, explicit=given_ones)
    for drive in range(4):
        faults = plan(spec, 400, drive)
        assert len(faults) > 100
        gaps = [later.at_ns - earlier.until_ns for earlier, later in pairwise(faults)]
        assert min(gaps) >= SECOND


def test_kinds_of_a_file(tmp_path: Path) -> None:
    """A list of kinds takes them alike, controls among them."""
    faults = plan(read(tmp_path, 'every_s = 5\nkinds = ["early", "capture_loss"]'))
    assert {fault.kind for fault in faults} == {"early", "capture_loss"}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("every = 3", ["every:", "every_s"]),
        ("every_s = 0", ["every_s:", "0.1 or more"]),
        ("every_s = true", ["every_s:", "number"]),
        ("every_s = 1e300", ["every_s:", "1e+09 or less"]),
        ('kinds = ["delay"]', ["every_s:", "missing", "kinds"]),
        ('every_s = 5\ncontrols = false\nkinds = ["capture_loss"]', ["controls:", "false"]),
        ('kinds = ["slow"]', ["kinds[0]:", "slow", "delay, missing"]),
        ("kinds = []", ["kinds:"]),
        ('kinds = ["delay"]\n[shares]\ndelay = 1', ["kinds:", "either"]),
        ("shares = {late = 1}", ["shares.late:"]),
        ("shares = {delay = 0}", ["shares:", "more than 0"]),
        ("shares = {delay = -1}", ["shares.delay:"]),
        ("severities = [0]", ["severities:", "1, 2, 3, 4"]),
        ('controls = "no"', ["controls:", "true or false"]),
        ("fault = 3", ["fault:"]),
        ('[[fault]]\nkind = "delay"', ["fault[0].at_s:", "missing"]),
        ("[[fault]]\nat_s = 3", ["fault[0].kind:", "missing"]),
        ('[[fault]]\nkind = "delay"\nat_s = -1', ["fault[0].at_s:"]),
        ('[[fault]]\nkind = "delay"\nat_s = 1e300', ["fault[0].at_s:", "1e+09 or less"]),
        ('[[fault]]\nkind = "delay"\nat_s = 700', ["fault[0].at_s:", "600 s"]),
        ('[[fault]]\nkind = "delay"\nat_s = 599.9', ["fault[0].at_s:", "ends at 600 s"]),
        ('[[fault]]\nkind = "delay"\nat_s = 9\nlate = 1', ["fault[0].late:", "pdu, ecu"]),
        ('[[fault]]\nkind = "delay"\nat_s = 9\nsize = 9', ["fault[0].size:", "0.1 to 5 cycles"]),
        ('[[fault]]\nkind = "missing"\nat_s = 9\nsize = 1.5', ["fault[0].size:", "whole"]),
        ('[[fault]]\nkind = "drift"\nat_s = 9\nsize = -20', ["fault[0].size:", "amount"]),
        ('[[fault]]\nkind = "delay"\nat_s = 9\npdu = "X"', ["fault[0].pdu:", "X", "ESC_01"]),
        ('[[fault]]\nkind = "delay"\nat_s = 9\npdu = 3', ["fault[0].pdu:", "name"]),
        (
            '[[fault]]\nkind = "delay"\nat_s = 9\npdu = "Tuer_12"',
            ["fault[0].pdu:", "Tuer_12", "a cyclic PDU"],
        ),
        ('[[fault]]\nkind = "delay"\nat_s = 9\necu = "GW"', ["fault[0].ecu:", "takes a pdu"]),
        ('[[fault]]\nkind = "ecu_stop"\nat_s = 9\npdu = "ESC_01"', ["fault[0].pdu:", "takes an ecu"]),
        ('[[fault]]\nkind = "gateway_restart"\nat_s = 9\necu = "HCP1"', ["fault[0].ecu:", "a gateway"]),
        ('[[fault]]\nkind = "capture_loss"\nat_s = 9\necu = "GW"', ["fault[0].ecu:", "neither"]),
        ("fault = [", ["not TOML"]),
    ],
)
def test_what_a_file_gets_wrong(tmp_path: Path, text: str, parts: list[str]) -> None:
    """Each mistake is one sentence with the file, the key, and what is allowed."""
    with pytest.raises(ConfigError) as error:
        plan(read(tmp_path, text))
    for part in ["faults.toml: ", *parts]:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_neither_a_level_nor_a_file() -> None:
    """The levels are named where a file is not found."""
    with pytest.raises(ConfigError, match=r"--faults havey: neither one of none, light, heavy nor a file"):
        read_faults("havey")
