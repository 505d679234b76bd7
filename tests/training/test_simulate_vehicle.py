"""Drawn vehicles have the size, the rates and the structure of a vehicle's Ethernet."""

from collections import Counter, defaultdict
from functools import cache
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.errors import ConfigError
from training.simulate.draw import PRESETS, draw_vehicle
from training.simulate.rates import expected_datagram_rate, expected_pdu_rate
from training.simulate.simulation import Simulation
from training.simulate.vehicle import EcuModel, ModeModel, PduModel, SocketModel, Vehicle

MS = 1_000_000
# PDU/s and datagrams/s, from the project's estimate for vehicles of that size.
PDU_RATES = {"bench": 560, "hcp": 2_750, "domain": 5_300, "vehicle": 10_800, "large": 19_800}
DATAGRAM_RATES = {"hcp": 215, "domain": 1_200, "vehicle": 2_400, "large": 5_000}
SIZES = {"bench": (20, 2), "hcp": (100, 1), "domain": (200, 6), "vehicle": (400, 12), "large": (800, 25)}

drawn = cache(draw_vehicle)
examples = st.sampled_from(
    [(preset, seed) for preset in ("bench", "hcp", "domain") for seed in (0, 1, 2, 3, 2**40)]
    + [("vehicle", 0)]
)


def com_pdus(vehicle: Vehicle) -> list[PduModel]:
    """What counts for the size: no NM, SD and gPTP, and nothing of the tester."""
    return [
        pdu
        for pdu in vehicle.pdus
        if pdu.role in ("com", "request", "reply") and vehicle.ecus[pdu.ecu].name != "Tester"
    ]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("seed", [0, 1])
def test_size_and_rates(preset: str, seed: int) -> None:
    """A preset's vehicles have its PDUs and ECUs, PDU/s within 8 % and datagrams/s within 15 %."""
    vehicle = drawn(preset, seed)
    ecus = [ecu for ecu in vehicle.ecus if ecu.name != "Tester"]
    assert (len(com_pdus(vehicle)), len(ecus)) == SIZES[preset]
    assert expected_pdu_rate(vehicle) == pytest.approx(PDU_RATES[preset], rel=0.08)
    if preset in DATAGRAM_RATES:
        assert expected_datagram_rate(vehicle) == pytest.approx(DATAGRAM_RATES[preset], rel=0.15)


@pytest.mark.parametrize(("preset", "seconds"), [("bench", 60), ("hcp", 60), ("domain", 30), ("vehicle", 15)])
def test_expected_rates_are_those_of_the_traffic(preset: str, seconds: int) -> None:
    """Traffic has the rates that are expected of the vehicle, whatever its modes happen to be."""
    vehicle = drawn(preset, 4)
    pdus = datagrams = 0
    for batch in Simulation(vehicle, seconds, drive=2).batches():
        pdus += len(batch.pdu)
        datagrams += len(batch.time_ns)
    assert pdus / seconds == pytest.approx(expected_pdu_rate(vehicle), rel=0.08)
    assert datagrams / seconds == pytest.approx(expected_datagram_rate(vehicle), rel=0.08)


def test_expected_pdu_rate_of_each_send_type() -> None:
    """Cycles count on each socket; changes, bursts and modes by their mean times."""
    ecu = EcuModel("A", 1, "02:00:00:00:00:01", 5 * MS, 0, 0, 5_000, 10_000, False, 0, 80 * MS)
    sockets = (SocketModel(0, 3, "::1", 1, "ff14::1", 1), SocketModel(0, 5, "::1", 1, "ff14::1", 1))

    def pdu(**changes: object) -> PduModel:
        values: dict[str, object] = {
            "pdu_id": 1, "name": "P", "ecu": 0, "sockets": (0,), "send_type": "cyclic", "cycle_ns": None,
            "length": 8, "constant": bytes(8),
        }  # fmt: skip
        return PduModel(**(values | changes))  # type: ignore[arg-type]

    def rate(*pdus: PduModel) -> float:
        modes = (ModeModel("m", 5_000 * MS, 15_000 * MS),)
        return expected_pdu_rate(Vehicle("v", 0, (ecu,), sockets, pdus, modes))

    assert rate(pdu(cycle_ns=20 * MS)) == pytest.approx(50)
    assert rate(pdu(cycle_ns=20 * MS, sockets=(0, 1))) == pytest.approx(100)
    switched = pdu(send_type="mode", cycle_ns=1000 * MS, fast_cycle_ns=20 * MS, mode=0)
    assert rate(switched) == pytest.approx(0.75 * 1 + 0.25 * 50)
    announcing = pdu(send_type="mixed", cycle_ns=1000 * MS, mode=0, announces=True, repetitions=3)
    assert rate(announcing) == pytest.approx(1 + 2 / 20 * 4)
    changing = pdu(
        send_type="mixed",
        cycle_ns=100 * MS,
        event_interval_ns=1940 * MS,
        repetitions=3,
        repetition_activations=4,
    )
    assert rate(changing) == pytest.approx(10 + 4 / 2)
    request = pdu(send_type="event", role="request", event_interval_ns=500 * MS)
    reply = pdu(send_type="event", role="reply", replies_to=0)
    assert rate(request, reply) == pytest.approx(4)


@settings(max_examples=20, deadline=None)
@given(examples)
def test_everything_fits_together(example: tuple[str, int]) -> None:
    """Names are unique, ids are on each socket, and cycles and phases fit the sender's raster."""
    vehicle = drawn(*example)
    assert len({pdu.name for pdu in vehicle.pdus}) == len(vehicle.pdus)
    assert (
        len({ecu.node for ecu in vehicle.ecus})
        == len({ecu.name for ecu in vehicle.ecus})
        == len(vehicle.ecus)
    )
    on_sockets = Counter((pdu.pdu_id, socket) for pdu in vehicle.pdus for socket in pdu.sockets if pdu.pdu_id)
    assert max(on_sockets.values()) == 1
    assert {socket for pdu in vehicle.pdus for socket in pdu.sockets} == set(range(len(vehicle.sockets)))
    for pdu in vehicle.pdus:
        ecu = vehicle.ecus[pdu.ecu]
        assert len(pdu.constant) == pdu.length
        assert pdu.length % 2 == 0
        assert pdu.length >= 8
        assert (pdu.cycle_ns is None) == (pdu.send_type == "event")
        assert (pdu.fast_cycle_ns is not None) == (pdu.send_type == "mode")
        for cycle_ns in (pdu.cycle_ns, pdu.fast_cycle_ns):
            assert (cycle_ns or 0) % ecu.raster_ns == 0
        if pdu.cycle_ns is not None:
            assert 0 <= pdu.phase < pdu.cycle_ns // ecu.raster_ns
        if pdu.repetitions:
            assert pdu.repetition_activations >= 1
        assert 1 <= len(set(pdu.sockets)) == len(pdu.sockets) <= 4
        assert vehicle.sockets[pdu.sockets[0]].ecu == pdu.ecu
        for socket in pdu.sockets:
            sender = vehicle.sockets[socket].ecu
            assert sender == pdu.ecu or vehicle.ecus[sender].gateway
        if pdu.role == "com":
            assert len({byte for byte, *_ in pdu.signals}) == 3
            assert all(byte < pdu.length and amplitude > 0 for byte, _, amplitude, _ in pdu.signals)
            assert pdu.trigger == (pdu.cycle_ns is None or pdu.cycle_ns < 10 * MS)
    for socket_model in vehicle.sockets:
        if socket_model.layout != "gptp":
            source, destination = ip_address(socket_model.source), ip_address(socket_model.destination)
            assert source.version == destination.version
            assert not source.is_multicast
            assert source != destination


@settings(max_examples=15, deadline=None)
@given(examples)
def test_shares(example: tuple[str, int]) -> None:
    """Send types, forwarded PDUs, copies, groups and the need of ignition have their usual shares."""
    vehicle = drawn(*example)
    pdus = com_pdus(vehicle)
    # On a bench, one PDU is five per cent.
    slack = 0.02 + 1 / len(pdus)
    send_types: Counter[str] = Counter(pdu.send_type for pdu in pdus)
    for send_type, share in (("cyclic", 0.64), ("mixed", 0.20), ("mode", 0.08), ("event", 0.08)):
        assert send_types[send_type] / len(pdus) == pytest.approx(share, abs=slack)
    assert sum(pdu.forwarded for pdu in pdus) / len(pdus) == pytest.approx(0.12, abs=slack)
    assert sum(len(pdu.sockets) > 1 for pdu in pdus) / len(pdus) == pytest.approx(0.15, abs=slack)
    assert sum(pdu.group is not None for pdu in pdus) / len(pdus) == pytest.approx(0.15, abs=slack + 0.1)
    assert sum(pdu.needs_ignition for pdu in pdus) / len(pdus) == pytest.approx(0.4, abs=0.15 + 4 / len(pdus))
    for pdu in pdus:
        if pdu.forwarded:
            assert vehicle.ecus[pdu.ecu].gateway
            assert (pdu.cycle_ns or 0) >= 10 * MS


@settings(max_examples=15, deadline=None)
@given(examples)
def test_groups_are_sent_together(example: tuple[str, int]) -> None:
    """PDUs of a group are two to five of one ECU, follow each other and share cycle, phase and sockets."""
    vehicle = drawn(*example)
    groups: dict[int, list[int]] = defaultdict(list)
    for index, pdu in enumerate(vehicle.pdus):
        if pdu.group is not None:
            groups[pdu.group].append(index)
    for members in groups.values():
        pdus = [vehicle.pdus[index] for index in members]
        assert 2 <= len(members) <= 5
        assert len({(pdu.ecu, pdu.cycle_ns, pdu.phase, pdu.sockets, pdu.needs_ignition) for pdu in pdus}) == 1
        order = [vehicle.pdus_of(pdus[0].ecu).index(index) for index in members]
        assert order == list(range(order[0], order[0] + len(order)))
        assert not any(pdu.forwarded for pdu in pdus)


@settings(max_examples=15, deadline=None)
@given(examples)
def test_modes_are_announced_and_switch(example: tuple[str, int]) -> None:
    """Each mode has one PDU that announces it and others that it makes faster."""
    vehicle = drawn(*example)
    for mode, model in enumerate(vehicle.modes):
        announcing = [pdu for pdu in vehicle.pdus if pdu.mode == mode and pdu.announces]
        switched = [pdu for pdu in vehicle.pdus if pdu.mode == mode and pdu.send_type == "mode"]
        assert [pdu.send_type for pdu in announcing] == ["mixed"]
        assert announcing[0].event_interval_ns == 0
        assert switched
        assert all((pdu.fast_cycle_ns or 0) * 5 <= (pdu.cycle_ns or 0) for pdu in switched)
        assert 5_000 * MS <= model.active_ns <= 20_000 * MS
        assert 10_000 * MS <= model.idle_ns <= 60_000 * MS


@settings(max_examples=15, deadline=None)
@given(examples)
def test_requests_and_replies_are_paired(example: tuple[str, int]) -> None:
    """A reply has its request's id, comes from another ECU, and goes back where the request came from."""
    vehicle = drawn(*example)
    requests = {index for index, pdu in enumerate(vehicle.pdus) if pdu.role == "request"}
    replies = [pdu for pdu in vehicle.pdus if pdu.role == "reply"]
    assert {pdu.replies_to for pdu in replies} == requests
    assert len(replies) == len(requests) == PRESETS[example[0]].pairs
    for reply in replies:
        assert reply.replies_to is not None
        request = vehicle.pdus[reply.replies_to]
        assert request.pdu_id == reply.pdu_id
        assert request.ecu != reply.ecu
        assert 500 * MS <= request.event_interval_ns <= 5_000 * MS
        assert 0 < reply.latency_ns[0] < reply.latency_ns[1]
        assert (request.constant[4:8], reply.constant[4:8]) == (b"\1\1\0\0", b"\1\1\x80\0")
        there, back = vehicle.sockets[request.sockets[0]], vehicle.sockets[reply.sockets[0]]
        assert (there.source, there.source_port) == (back.destination, back.destination_port)
        assert (there.destination, there.destination_port) == (back.source, back.source_port)
        assert there.vlan == back.vlan


@settings(max_examples=15, deadline=None)
@given(examples)
def test_network_management_discovery_and_time(example: tuple[str, int]) -> None:
    """Each ECU but the tester has an NM PDU, each server offers its services, and one ECU sends the time."""
    vehicle = drawn(*example)
    roles = defaultdict(list)
    for pdu in vehicle.pdus:
        roles[pdu.role].append(pdu)
    assert [pdu.name for pdu in roles["nm"]] == [
        f"NM_{ecu.name}" for ecu in vehicle.ecus if ecu.name != "Tester"
    ]
    for pdu in roles["nm"]:
        socket = vehicle.sockets[pdu.sockets[0]]
        assert (socket.layout, socket.source_port, socket.destination_port) == ("none", 30500, 30500)
        assert pdu.constant[1] == vehicle.ecus[pdu.ecu].node
    assert [pdu.ecu for pdu in roles["sd"]] == sorted({pdu.ecu for pdu in roles["reply"]})
    for pdu in roles["sd"]:
        assert pdu.pdu_id == 0xFFFF8100
        for reply in roles["reply"]:
            service = (reply.pdu_id >> 16).to_bytes(2, "big")
            assert (service in pdu.constant) == (reply.ecu == pdu.ecu)
    (sync,), (follow_up,) = roles["sync"], roles["follow_up"]
    assert (sync.length, follow_up.length) == (44, 76)
    assert vehicle.pdus.index(sync) + 1 == vehicle.pdus.index(follow_up)
    assert sync.cycle_ns == follow_up.cycle_ns == 125 * MS
    assert (sync.group, sync.phase) == (follow_up.group, follow_up.phase)
    assert sync.group is not None
    if len(vehicle.ecus) > 2:
        assert vehicle.ecus[sync.ecu].drift_ppb == 0
    assert 0 <= sum(ecu.drift_ppb == 0 for ecu in vehicle.ecus) <= 2


@pytest.mark.parametrize("preset", PRESETS)
def test_terminal_status_is_sent_without_ignition(preset: str) -> None:
    """Every vehicle tells its terminal status, in cycles and on change, whether or not ignition is on."""
    (pdu,) = (pdu for pdu in drawn(preset, 0).pdus if pdu.name == "Klemmen_Status_01")
    assert (pdu.send_type, pdu.needs_ignition) == ("mixed", False)
    assert pdu.cycle_ns in (100 * MS, 200 * MS)


def test_copies_take_several_ways() -> None:
    """A vehicle has unicast copies, copies on other VLANs, by gateways, over IPv4 and without a tag."""
    vehicle = drawn("vehicle", 0)
    copies = [(pdu, vehicle.sockets[socket]) for pdu in vehicle.pdus for socket in pdu.sockets[1:]]
    first = {pdu.name: vehicle.sockets[pdu.sockets[0]] for pdu in vehicle.pdus}
    assert any(not ip_address(socket.destination).is_multicast for _, socket in copies)
    assert any(socket.vlan != first[pdu.name].vlan for pdu, socket in copies)
    assert any(socket.ecu != pdu.ecu for pdu, socket in copies)
    assert any(len(pdu.sockets) > 2 for pdu in vehicle.pdus)
    assert any("." in socket.source for socket in vehicle.sockets)
    assert {"last_is_best", "queued"} == {s.collection for s in vehicle.sockets if s.collect_ns}
    assert all(1 * MS <= s.collect_ns <= 5 * MS for s in vehicle.sockets if s.collect_ns)
    assert any(socket.vlan is None and socket.layout == "soad" for socket in vehicle.sockets)


def test_same_arguments_same_vehicle() -> None:
    """A preset and a seed decide on everything; another seed is another vehicle."""
    for preset in ("bench", "hcp", "domain"):
        assert draw_vehicle(preset, 3) == draw_vehicle(preset, 3)
        one, other = draw_vehicle(preset, 3), draw_vehicle(preset, 4)
        assert {pdu.name for pdu in one.pdus} != {pdu.name for pdu in other.pdus}
        assert [ecu.node for ecu in one.ecus] != [ecu.node for ecu in other.ecus]


@pytest.mark.parametrize(
    ("preset", "seed", "message"), [("truck", 0, "--preset truck"), ("hcp", -1, "--seed -1")]
)
def test_bad_arguments(preset: str, seed: int, message: str) -> None:
    """An unknown preset and a negative seed are refused in one sentence."""
    with pytest.raises(ConfigError, match=message):
        draw_vehicle(preset, seed)
