"""The activity state machines, as scripts of who sends when."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.decode.state import ActivityState, MappedPdu
from ecustream.errors import ConfigError
from ecustream.traffic import Stream

MS = 1_000_000
INIT, NORMAL, TRANSITION = 0, 1, 2
CYCLES_MS = [10] * 5 + [20] * 10 + [50] * 5 + [100] * 12 + [200] * 8 + [500] * 5 + [1000] * 5
NM_PORT = 30500


def stream(name: str, src: str = "10.0.0.1", dport: int = 42557) -> Stream:
    """A stream whose key is its name."""
    return Stream(0, name, name, "ETH1", src, 42994, "239.0.0.1", dport)


def cyclic(spans_ms: dict[int, list[tuple[int, int]]], seed: int = 1) -> list[tuple[int, int]]:
    """Lines (time, PDU number) of PDUs that send in these spans, with random phases and 5 % jitter."""
    chance = random.Random(seed)
    lines = []
    for number, spans in spans_ms.items():
        cycle_ns = CYCLES_MS[number] * MS
        for begin_ms, end_ms in spans:
            time_ns = begin_ms * MS + chance.randrange(cycle_ns)
            while time_ns < end_ms * MS:
                lines.append((time_ns, number))
                time_ns += round(cycle_ns * chance.uniform(0.95, 1.05))
    return sorted(lines)


def states(lines: list[tuple[int, int]], known: bool = True) -> list[tuple[int, int]]:
    """The changes of state (time in ms, new state) over the lines; the first is that of the first line."""
    cycles_ns = {f"P{number}": cycle * MS for number, cycle in enumerate(CYCLES_MS)} if known else None
    machine = ActivityState(cycles_ns=cycles_ns)
    members = [machine.enrol(stream(f"P{number}")) for number in range(len(CYCLES_MS))]
    changes: list[tuple[int, int]] = []
    for time_ns, number in lines:
        state = machine.advance(members[number], time_ns, b"")
        if not changes or changes[-1][1] != state:
            changes.append((time_ns // MS, state))
    return changes


EVERYBODY = range(len(CYCLES_MS))


def codes(changes: list[tuple[int, int]]) -> list[int]:
    """The states of the changes, without their times."""
    return [state for _, state in changes]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_capture_that_begins_in_a_drive_is_normal_from_its_first_line(seed: int) -> None:
    """No false start-up at the beginning of a trace, whatever the phases are."""
    assert codes(states(cyclic({n: [(0, 6_000)] for n in EVERYBODY}, seed))) == [NORMAL]


def test_without_known_cycles_it_is_normal_throughout() -> None:
    """Nothing is learnt from the trace itself, not even from a start-up."""
    lines = cyclic({n: [(100 * n, 8_000)] for n in EVERYBODY})
    assert codes(states(lines, known=False)) == [NORMAL]


def test_silent_group_of_ecus_is_a_fault_and_no_shutdown() -> None:
    """A third of the PDUs silent for two seconds does not change the state."""
    silent = set(range(0, len(CYCLES_MS), 3))
    lines = cyclic({n: [(0, 4_000), (6_000, 10_000)] if n in silent else [(0, 10_000)] for n in EVERYBODY})
    assert codes(states(lines)) == [NORMAL]


def test_start_up_goes_from_not_initialized_to_normal() -> None:
    """ECUs that wake one after the other: first nothing is there, then it ramps, then it is normal."""
    lines = cyclic({n: [(0 if n == 0 else 500 + 40 * n, 12_000)] for n in EVERYBODY})
    changes = states(lines)
    # The very first lines have had no time to be missed.
    assert codes(changes) == [NORMAL, INIT, TRANSITION, NORMAL]
    assert changes[1][0] <= 250
    assert 500 <= changes[2][0] <= 1_500
    assert 2_000 <= changes[3][0] <= 4_500


def test_shutdown_goes_over_transition_to_not_initialized() -> None:
    """ECUs that stop one after the other until one is left."""
    lines = cyclic({n: [(0, 12_000 if n == 0 else 5_000 + 50 * n)] for n in EVERYBODY})
    changes = states(lines)
    assert codes(changes) == [NORMAL, TRANSITION, INIT]
    assert 5_500 <= changes[1][0] <= 8_000
    assert changes[2][0] > changes[1][0] + 500


def test_vehicle_that_shows_less_than_was_learnt_becomes_normal() -> None:
    """Six of ten known PDUs, steady after a start-up, are this vehicle's normal operation."""
    present = [n for n in EVERYBODY if n % 5 < 3]
    lines = cyclic({n: [(0 if n == 0 else 1_000, 12_000)] for n in present})
    changes = states(lines)
    assert changes[-1][1] == NORMAL
    assert changes[-1][0] < 9_000


def test_gap_in_the_capture_is_no_shutdown() -> None:
    """After ten silent seconds in mid-drive it is normal at once."""
    assert codes(states(cyclic({n: [(0, 4_000), (14_000, 18_000)] for n in EVERYBODY}))) == [NORMAL]


@pytest.mark.parametrize("step_ms", [-3_600_000, 3_600_000])
def test_clock_that_was_set_does_not_change_the_state(step_ms: int) -> None:
    """A step of the clock by an hour, forth or back, begins the population anew."""
    begin = 4_000_000
    lines = cyclic({n: [(begin, begin + 4_000)] for n in EVERYBODY})
    lines += [(time_ns + (4_000 + step_ms) * MS, n) for time_ns, n in lines]
    assert codes(states(lines)) == [NORMAL]


def test_machine_goes_on_after_the_clock_was_set_back() -> None:
    """What happens after the step is judged by the new time."""
    lines = cyclic({n: [(4_000_000, 4_004_000)] for n in EVERYBODY}) + cyclic({0: [(0, 4_000)]})
    changes = states(lines)
    assert codes(changes) == [NORMAL, INIT]
    assert changes[1][0] <= 500


def test_sudden_stop_is_a_shutdown_first() -> None:
    """Few PDUs are "not initialized" only when they have been few for a second."""
    changes = states(cyclic({n: [(0, 12_000 if n == 0 else 5_000)] for n in EVERYBODY}))
    assert codes(changes) == [NORMAL, TRANSITION, INIT]
    assert changes[2][0] >= 7_300


def test_start_up_after_a_sleep_is_seen() -> None:
    """Silence, then a few ECUs, then all: the state follows although it was normal before the sleep."""
    spans = {n: [(0, 4_000), (20_000 if n < 2 else 22_000 + 20 * n, 30_000)] for n in EVERYBODY}
    changes = states(cyclic(spans))
    assert codes(changes) == [NORMAL, INIT, TRANSITION, NORMAL]
    assert 20_000 < changes[1][0] < 20_500


def test_population_of_one_slow_pdu_is_no_gap() -> None:
    """A single cyclic PDU that stops is noticed; its pauses between two lines are not."""
    machine = ActivityState(cycles_ns={"P": 1_000 * MS})
    slow, other = machine.enrol(stream("P")), machine.enrol(stream("Q"))
    seen = [machine.advance(slow, 1_000 * n * MS, b"") for n in range(10)]
    assert set(seen) == {NORMAL}
    seen = [machine.advance(other, (9_000 + 100 * n) * MS, b"") for n in range(60)]
    assert seen[-1] == INIT


def test_slow_bus_has_no_gaps() -> None:
    """On a bus with a line a second, one of three PDUs that goes on is noticed as a shutdown."""
    machine = ActivityState(cycles_ns=dict.fromkeys("PQR", 1000 * MS))
    members = {name: machine.enrol(stream(name)) for name in "PQR"}
    for second in range(10):
        for name in "PQR":
            assert machine.advance(members[name], second * 1_000 * MS, b"") == NORMAL
    seen = [machine.advance(members["P"], second * 1_000 * MS, b"") for second in range(10, 20)]
    assert seen[-1] == TRANSITION


def test_mapped_pdu_tells_the_state() -> None:
    """The signal is masked and shifted down; unknown values and short payloads leave the state."""
    machine = ActivityState(MappedPdu("Klemmen", 1, 0x30, {0: INIT, 1: TRANSITION, 3: NORMAL}))
    member = machine.enrol(stream("Klemmen"))
    payloads = [b"\0\xcf", b"\0\x1f", b"\0", b"\0\x20", b"\0\x30", b""]
    seen = [machine.advance(member, n * MS, payload) for n, payload in enumerate(payloads)]
    assert seen == [INIT, TRANSITION, TRANSITION, TRANSITION, NORMAL, NORMAL]
    assert machine.advance(machine.enrol(stream("Other")), 10 * MS, b"\0\0") == NORMAL


def test_mapped_pdu_counts_before_the_population() -> None:
    """Missing PDUs do not change what the vehicle says itself."""
    machine = ActivityState(
        MappedPdu("K", 0, 0xFF, {1: NORMAL}), cycles_ns={f"P{n}": 10 * MS for n in range(20)}
    )
    member = machine.enrol(stream("K"))
    assert {machine.advance(member, n * 10 * MS, b"\1") for n in range(100)} == {NORMAL}


@pytest.mark.parametrize(
    "mapped",
    [
        MappedPdu("K", -1, 1, {}),
        MappedPdu("K", 0, 0, {}),
        MappedPdu("K", 0, 256, {}),
        MappedPdu("K", 0, 1, {0: 3}),
    ],
)
def test_impossible_mapping_is_refused(mapped: MappedPdu) -> None:
    """The sentence names the PDU."""
    with pytest.raises(ConfigError, match="'K'"):
        ActivityState(mapped)


def nm(script: list[tuple[int, str, int]], until_ms: int) -> dict[int, int]:
    """State every 100 ms of an application PDU's lines beside NM messages (time, node, control bits)."""
    machine = ActivityState(nm_port=NM_PORT)
    nodes = {node: machine.enrol(stream("NM", node, NM_PORT)) for _, node, _ in script}
    other = machine.enrol(stream("P"))
    waiting = sorted(script)
    seen = {}
    for time_ms in range(0, until_ms, 100):
        while waiting and waiting[0][0] <= time_ms:
            at_ms, node, bits = waiting.pop(0)
            machine.advance(nodes[node], at_ms * MS, bytes([bits, 0x17]))
        seen[time_ms] = machine.advance(other, time_ms * MS, b"")
    return seen


def every(node: str, begin_ms: int, end_ms: int, bits: int = 0) -> list[tuple[int, str, int]]:
    """NM messages of a node, 500 ms apart."""
    return [(at_ms, node, bits) for at_ms in range(begin_ms, end_ms, 500)]


def test_nm_of_a_running_vehicle_is_normal() -> None:
    """A capture that begins with running network management has no start-up."""
    assert set(nm(every("a", 50, 5_000) + every("b", 250, 5_000), 5_000).values()) == {NORMAL}


def test_nm_repeat_message_is_a_start_up() -> None:
    """While the nodes ask for Repeat Message it is start-up, then normal."""
    seen = nm(every("a", 0, 1_500, 1) + every("a", 1_500, 5_000), 5_000)
    assert [seen[at] for at in (100, 1_400, 1_600, 4_000)] == [TRANSITION, TRANSITION, NORMAL, NORMAL]


def test_nm_of_one_waking_node_among_many_is_normal() -> None:
    """A late node does not make the vehicle start."""
    script = [entry for node in "abcd" for entry in every(node, 0, 5_000)] + every("e", 2_000, 3_000, 1)
    assert set(nm(script, 5_000).values()) == {NORMAL}


def test_nm_that_stops_is_a_shutdown_and_then_sleep() -> None:
    """Two seconds after the last message it is shutdown, 1.5 s later not initialized; then it wakes."""
    seen = nm(every("a", 0, 3_000) + every("a", 10_000, 14_000), 14_000)
    assert [seen[at] for at in (2_900, 4_400, 5_000, 7_000)] == [NORMAL, NORMAL, TRANSITION, INIT]
    assert [seen[at] for at in (10_100, 10_900, 11_200)] == [TRANSITION, TRANSITION, NORMAL]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1 << 62), st.sampled_from("KNPQ"), st.binary(max_size=2)), max_size=40)
)
def test_any_times_and_payloads_give_a_state(script: list[tuple[int, str, bytes]]) -> None:
    """Nothing in traffic breaks the machines, and the same traffic gives the same states."""
    runs = []
    for _ in range(2):
        machine = ActivityState(
            MappedPdu("K", 0, 0x0F, {n: n % 3 for n in range(8)}), NM_PORT, {"P": 10 * MS, "Q": 1}
        )
        members = {name: machine.enrol(stream(name, dport=NM_PORT if name == "N" else 1)) for name in "KNPQ"}
        runs.append([machine.advance(members[name], time_ns, payload) for time_ns, name, payload in script])
    assert runs[0] == runs[1]
    assert set(runs[0]) <= {INIT, NORMAL, TRANSITION}
