"""Servers reply to requests."""

import numpy as np

from tests.training.handmade import MS, SECOND, full_vehicle
from training.simulate.replies import Replies
from training.simulate.scenario import Day, read_scenario
from training.simulate.schedule import EcuSender
from training.simulate.tables import Sends

VEHICLE = full_vehicle()
REQUEST = next(index for index, pdu in enumerate(VEHICLE.pdus) if pdu.role == "request")
REPLY = next(index for index, pdu in enumerate(VEHICLE.pdus) if pdu.role == "reply")


def requests(seconds: int = 300) -> Sends:
    """All that the requesting ECU sends."""
    day = Day(VEHICLE, read_scenario("drive", seconds), 0)
    return EcuSender(VEHICLE, VEHICLE.pdus[REQUEST].ecu, day, 0).advance(seconds * SECOND)


def test_each_request_has_a_reply() -> None:
    """Each request is answered once, with its number, after a latency spread over the given range."""
    sends = requests()
    asked = sends.take(sends.pdu == REQUEST)
    replies = Replies(VEHICLE, 0).replies(sends)
    assert len(asked) > 500
    assert (replies.pdu == REPLY).all()
    assert np.array_equal(replies.value, asked.value)
    assert not replies.due.any()
    assert replies.sent.all()
    assert (replies.data_ns == replies.time_ns).all()
    latency_ns = replies.time_ns - asked.time_ns
    assert latency_ns.min() >= MS
    assert latency_ns.max() <= 30 * MS
    np.testing.assert_allclose(np.percentile(latency_ns, [10, 50, 90]) / MS, [3.9, 15.5, 27.1], atol=1.5)


def test_no_reply_without_request() -> None:
    """What is no request, and a request that is not sent, has no reply."""
    sends = requests(20)
    assert len(Replies(VEHICLE, 0).replies(Sends.empty())) == 0
    assert len(Replies(VEHICLE, 0).replies(sends.take(sends.pdu != REQUEST))) == 0
    sends.sent[:] = False
    assert len(Replies(VEHICLE, 0).replies(sends)) == 0


def test_replies_do_not_depend_on_the_table() -> None:
    """A reply is the same whichever other requests are in the table; another drive has other latencies."""
    sends = requests(60)
    whole = Replies(VEHICLE, 0).replies(sends)
    late = Replies(VEHICLE, 0).replies(sends.take(sends.time_ns > 30 * SECOND))
    assert 0 < len(late) < len(whole)
    assert np.array_equal(whole.time_ns[-len(late) :], late.time_ns)
    other = Replies(VEHICLE, 1).replies(sends)
    assert (other.time_ns != whole.time_ns).mean() > 0.9
