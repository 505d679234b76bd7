"""Payloads say what their row says: counters, signals, session ids, network management, gPTP times."""

import struct
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.contrib.automotive.someip import (
    SD,
    SOMEIP,
    SDEntry_Service,
    SDOption_IP4_EndPoint,
    SDOption_IP6_EndPoint,
)

from training.simulate.batch import START_NS
from training.simulate.payload import PayloadWriter
from training.simulate.protocols import offer_message
from training.simulate.tables import Wire
from training.simulate.vehicle import EcuModel, PduModel, Vehicle

MS = 1_000_000
SIGNALS = ((4, 100 * MS, 50, 3), (5, 1000 * MS, 127, 200), (7, 333 * MS, 1, 0))
COM = PduModel(
    1, "COM", 0, (0,), "cyclic", 10 * MS, 8, bytes([0xA1, 0xBC, 0xC3, 0xD5, 5, 6, 7, 8]), signals=SIGNALS
)
SERVICE = 0x1234
OFFER = offer_message([(SERVICE, 1), (0x4321, 2)], "fd53:7cb8:383:3::11", 30501)

ECUS = tuple(
    EcuModel(f"ECU_{n}", n, f"02:11:22:33:44:{n:02x}", 5 * MS, 0, 0, 0, 0, False, 0, 0) for n in (0x11, 0x12)
)
PDUS = (
    COM,
    replace(COM, pdu_id=2, name="MIXED", send_type="mixed"),
    replace(COM, pdu_id=4, name="MODE", send_type="event", announces=True),
    PduModel(SERVICE << 16 | 1, "GET", 1, (0,), "event", None, 12, bytes([0xEE] * 12), role="request"),
    PduModel(SERVICE << 16 | 1, "GOT", 0, (0,), "event", None, 16, bytes([0xDD] * 16), "reply", replies_to=3),
    PduModel(0, "NM", 1, (0,), "cyclic", 500 * MS, 8, bytes([0xCC] * 8), role="nm"),
    PduModel(0xFFFF8100, "SD", 0, (0,), "cyclic", 1000 * MS, len(OFFER), OFFER, role="sd"),
    PduModel(0, "SYNC", 1, (0,), "cyclic", 125 * MS, 44, bytes(44), role="sync"),
    PduModel(0, "FUP", 1, (0,), "cyclic", 125 * MS, 76, bytes(76), role="follow_up"),
)  # fmt: skip
INDEX = {pdu.name: index for index, pdu in enumerate(PDUS)}
WRITER = PayloadWriter(Vehicle("test", 1, ECUS, (), PDUS))


def payload(name: str, *, counter: int = 0, changes: int = 0, data_ns: int = 0, value: int = 0) -> bytes:
    wire = Wire(
        *(np.array([x]) for x in (INDEX[name], 0, 0, data_ns, data_ns, counter, changes, data_ns, value))
    )
    return WRITER.fill(wire)[0, : PDUS[INDEX[name]].length].tobytes()


@pytest.mark.parametrize(
    ("name", "row", "byte_1", "byte_2", "byte_3"),
    [
        ("COM", {"counter": 5, "changes": 7, "value": 0}, 0xB5, 0xC3, 0xD5),
        ("COM", {"counter": 37}, 0xB5, 0xC3, 0xD5),
        ("MIXED", {"counter": 1, "changes": 258}, 0xB1, 0x02, 0xD5),
        ("MODE", {"counter": 2, "changes": 3, "value": 1}, 0xB2, 0x03, 0xD5),
        ("MODE", {"counter": 3, "changes": 4, "value": 0}, 0xB3, 0x04, 0xD4),
    ],
)
def test_counters(name: str, row: dict[str, int], byte_1: int, byte_2: int, byte_3: int) -> None:
    """The alive counter is a nibble; changes are counted only where there are some; modes are a bit."""
    found = payload(name, **row)
    assert found[0] == 0xA1
    assert tuple(found[1:4]) == (byte_1, byte_2, byte_3)
    assert found[6] == 7


def test_signals_follow_the_sampling_time() -> None:
    """A signal moves by one a step, up and down between 0 and its amplitude, by the time of its data."""
    values = [payload("COM", data_ns=step * 100 * MS)[4] for step in range(200)]
    assert {abs(b - a) for a, b in pairwise(values)} == {1}
    assert (min(values), max(values)) == (0, 50)
    assert values[:100] == values[100:]
    assert payload("COM", counter=3, data_ns=7)[2:] == payload("COM", counter=8, data_ns=99 * MS)[2:]


@given(st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_requests_and_replies_belong_together(number: int) -> None:
    """Request and reply of one number have client and session id in common; the session id is never 0."""
    get = SOMEIP(struct.pack(">II", PDUS[INDEX["GET"]].pdu_id, 12) + payload("GET", value=number, counter=9))
    got = SOMEIP(struct.pack(">II", PDUS[INDEX["GOT"]].pdu_id, 16) + payload("GOT", value=number))
    following = SOMEIP(struct.pack(">II", PDUS[INDEX["GET"]].pdu_id, 12) + payload("GET", value=number + 1))
    assert (get.srv_id, get.client_id, get.session_id) == (got.srv_id, got.client_id, got.session_id)
    assert 1 <= get.session_id <= 0xFFFF
    assert following.session_id == (1 if get.session_id == 0xFFFF else get.session_id + 1)
    assert (get.proto_ver, get.iface_ver, get.msg_type, get.retcode) == (1, 1, 0x00, 0)
    assert (got.proto_ver, got.iface_ver, got.msg_type, got.retcode) == (1, 1, 0x80, 0)
    assert payload("GET")[8:] == b"\xee" * 4
    assert payload("GOT")[8:] == b"\xdd" * 8


@pytest.mark.parametrize(
    ("counter", "session", "flags"),
    [(0, 1, 0xC0), (65534, 65535, 0xC0), (65535, 1, 0x40), (131070, 1, 0x40), (70000, 4466, 0x40)],
)
def test_service_discovery_counts_sessions(counter: int, session: int, flags: int) -> None:
    """Session ids begin at 1 and never are 0; the reboot flag is set until they begin anew."""
    found = payload("SD", counter=counter)
    assert struct.unpack(">H", found[2:4]) == (session,)
    assert found[8] == flags
    assert found[:2] + found[4:8] + found[9:] == OFFER[:2] + OFFER[4:8] + OFFER[9:]


@pytest.mark.parametrize(
    ("address", "option"),
    [("fd53:7cb8:383:3::11", SDOption_IP6_EndPoint), ("192.168.1.17", SDOption_IP4_EndPoint)],
)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_scapy_builds_the_same_offer(address: str, option: Any, count: int) -> None:
    """An offer is byte for byte what scapy makes of the same services."""
    services = [(0x1000 + i, i + 1) for i in range(count)]
    discovery: Any = SD()
    discovery.flags = 0xC0
    discovery.set_entryArray(
        [
            SDEntry_Service(type=1, n_opt_1=1, srv_id=service, inst_id=instance, major_ver=1, ttl=3)
            for service, instance in services
        ]
    )
    discovery.set_optionArray([option(addr=address, l4_proto=17, port=30501)])
    whole = SOMEIP(srv_id=0xFFFF, sub_id=0x8100, client_id=0, session_id=0, msg_type=2) / discovery
    assert offer_message(services, address, 30501) == bytes(whole)[8:]
    assert len(offer_message(services, address, 30501)) % 2 == 0


def test_network_management() -> None:
    """Byte 0 is the control bit vector, byte 1 the node id, the rest constant."""
    assert payload("NM", value=0x11, counter=4) == bytes([0x11, 0x12]) + b"\xcc" * 6


def test_gptp_pairs() -> None:
    """Sync and Follow_Up have sequence and port in common; Follow_Up tells the time, to the nanosecond."""
    sync, follow_up = (
        payload("SYNC", counter=65541, data_ns=1),
        payload("FUP", counter=65541, data_ns=2_000_000_003),
    )
    assert (sync[0], sync[1], follow_up[0], follow_up[1]) == (0x10, 2, 0x18, 2)
    assert sync[30:32] == follow_up[30:32] == struct.pack(">H", 5)
    assert sync[20:30] == follow_up[20:30] == bytes.fromhex("021122fffe3344120001")
    seconds, nanoseconds = divmod(START_NS + 2_000_000_003, 10**9)
    assert follow_up[34:44] == seconds.to_bytes(6) + nanoseconds.to_bytes(4)
    assert sync[34:] == bytes(10)
    assert follow_up[44:] == bytes.fromhex("0003001c0080c2000001") + bytes(22)


def test_rows_do_not_touch_each_other() -> None:
    """Many rows at once give what each of them gives alone, zero beyond a PDU's length."""
    rng = np.random.default_rng(1)
    columns = [rng.integers(0, high, 300) for high in (len(PDUS), 1, 9, 10**11, 1, 10**6, 300, 10**11, 256)]
    wire = Wire(*columns)
    found = WRITER.fill(wire)
    assert found.shape == (300, max(pdu.length for pdu in PDUS))
    for row in range(300):
        assert (found[row] == WRITER.fill(wire.take(np.array([row])))[0]).all()
        assert not found[row, PDUS[wire.pdu[row]].length :].any()
    assert WRITER.fill(Wire.empty()).shape == (0, found.shape[1])
