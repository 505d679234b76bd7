"""From a vehicle's waking to its sleep: when each ECU and each PDU starts, settles and stops."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.draws import IntArray, below, make_key
from training.simulate.segments import FOREVER, Phase
from training.simulate.tables import BoolArray
from training.simulate.vehicle import Vehicle

__all__ = ["Awake", "Planner", "Times", "awake_times"]

MS = 1_000_000
SECOND = 1_000 * MS

REPEAT_MESSAGE_NS = SECOND
NM_STOP_NS = (2 * SECOND, 4 * SECOND)
FIRST_STOP_NS = 300 * MS
# NM timeout, then the wait in Prepare Bus-Sleep.
BUS_SLEEP_NS = 3_500 * MS
IGNITION_NS = (1_500 * MS, 3 * SECOND)
START_OFFSET_NS = 300 * MS
IRREGULAR = 3
# A slower PDU has but one irregular interval.
IRREGULAR_CYCLE_NS = 500 * MS
SD_START_NS = 210 * MS
INDEX_BITS = 16
CACHED_PLANS = 8


@dataclass(frozen=True, slots=True)
class Awake:
    """A time awake: from a startup to the next, or to the sleep between.

    Attributes:
        number: it is the number-th of the trace, from 0.
        wake_ns: start of the startup; `-FOREVER` where the trace begins later than that.
        off_ns: when ignition is turned off; `FOREVER` where the trace ends before.
        end_ns: when the next one begins, or the sleep.
        quick: it follows the one before without sleep between.
    """

    number: int
    wake_ns: int
    off_ns: int
    end_ns: int
    quick: bool


@dataclass(frozen=True, slots=True)
class Times:
    """When what happens in a time awake.

    Attributes:
        nm_start_ns: first NM message by ECU.
        nm_stop_ns: when each ECU releases the network; it sends no NM from there.
        start_ns: when each PDU starts; where it kept running: when the vehicle woke.
        stop_ns: from when each PDU is not sent; later than the next waking: it keeps running.
        irregular: with how many irregular intervals each PDU starts.
        waker: index of the ECU that wakes the others.
        coordinator: index of the gateway that coordinates the shutdown; -1: there is none.
        normal_ns: all nodes are out of Repeat Message and all PDUs are sent, or ignition is off.
        settled_ns: all PDUs have found their cycle.
        sleep_ns: the bus sleeps: 3.5 s after the last node released the network.
    """

    nm_start_ns: IntArray
    nm_stop_ns: IntArray
    start_ns: IntArray
    stop_ns: IntArray
    irregular: IntArray
    waker: int
    coordinator: int
    normal_ns: int
    settled_ns: int
    sleep_ns: int


def awake_times(phases: Sequence[Phase]) -> list[Awake]:
    """The times awake in a trace's phases, in order."""
    awake: list[Awake] = []
    # Waking, ignition off, and whether there was sleep before the time awake that is open.
    wake_ns: int | None = None
    off_ns = FOREVER
    quick = False

    def close(end_ns: int) -> None:
        if wake_ns is not None:
            awake.append(Awake(len(awake), wake_ns, off_ns, end_ns, quick))

    for phase in phases:
        wakes = phase.kind == "startup" and (wake_ns is None or off_ns < FOREVER)
        if phase.kind == "asleep" or wakes:
            close(phase.start_ns)
            quick = wakes and wake_ns is not None
            wake_ns, off_ns = (phase.start_ns if wakes else None), FOREVER
        elif wake_ns is None:
            wake_ns = -FOREVER
        if phase.kind == "shutdown":
            off_ns = min(off_ns, phase.start_ns)
    close(FOREVER)
    return awake


class Planner:
    """Draws the `Times` of each time awake, in any order.

    Args:
        vehicle: whose ECUs and PDUs start and stop.
        drive: seed of what happens on the drive.
        awake: from `awake_times`.
    """

    def __init__(self, vehicle: Vehicle, drive: int, awake: Sequence[Awake]) -> None:
        self._awake = awake
        self._keys = {
            use: make_key("awake", vehicle.seed, drive, use)
            for use in ("waker", "ignition", "offset", "irregular", "stop", "nm_stop", "shift")
        }
        self._plans: dict[int, Times] = {}
        pdus, ecus = vehicle.pdus, vehicle.ecus
        self._ecu = np.array([pdu.ecu for pdu in pdus], np.int64)
        self._delay_ns = np.array([ecu.wake_delay_ns for ecu in ecus], np.int64)
        self._boot_ns = np.array([ecu.start_delay_ns for ecu in ecus], np.int64)
        self._stop_delay_ns = np.array([pdu.stop_delay_ns for pdu in pdus], np.int64)
        self._cycle_ns = np.array([pdu.cycle_ns or 0 for pdu in pdus], np.int64)
        self._ignition = np.array([pdu.needs_ignition for pdu in pdus], np.bool_)
        self._basic = np.array([pdu.role in ("nm", "sync", "follow_up") for pdu in pdus], np.bool_)
        self._discovery = np.array([pdu.role == "sd" for pdu in pdus], np.bool_)
        self._restarting = np.array([pdu.role in ("nm", "sd") for pdu in pdus], np.bool_)
        nodes = sorted({pdu.ecu for pdu in pdus if pdu.role == "nm"})
        self._nodes = np.array(nodes or range(len(ecus)), np.int64)
        self._coordinator = next((node for node in nodes if ecus[node].gateway), -1)
        # PDUs of a group share what is drawn.
        first: dict[tuple[int, int], int] = {}
        self._draw_as = np.array(
            [i if p.group is None else first.setdefault((p.ecu, p.group), i) for i, p in enumerate(pdus)],
            np.int64,
        )

    def times(self, number: int) -> Times:
        """The times of a time awake."""
        if number not in self._plans:
            if len(self._plans) >= CACHED_PLANS:
                del self._plans[next(iter(self._plans))]
            self._plans[number] = self._plan(self._awake[number])
        return self._plans[number]

    def irregular_shift(self, number: int, pdu: int, interval: int, period: int) -> int:
        """A shift, of `period` activations at most, for an irregular interval of a PDU that starts."""
        counter = (number << INDEX_BITS | int(self._draw_as[pdu])) * IRREGULAR + interval
        return int(below(self._keys["shift"], np.array([counter]), period)[0])

    def _draw(self, use: str, number: int, index: IntArray, count_ns: int | IntArray) -> IntArray:
        # In microseconds, because `below` has a limit of 2^31.
        return below(self._keys[use], (number << INDEX_BITS) + index, np.maximum(count_ns, 0) // 1000) * 1000

    def _stops(self, awake: Awake) -> tuple[IntArray, IntArray]:
        """When PDUs stop and when nodes release the network."""
        ecus = np.arange(len(self._delay_ns))
        if awake.off_ns == FOREVER:
            return np.full(len(self._ecu), FOREVER), np.full(len(ecus), FOREVER)
        least, most = NM_STOP_NS
        nm_stop_ns = awake.off_ns + least + self._draw("nm_stop", awake.number, ecus, most - least)
        ignition_ns = awake.off_ns + self._stop_delay_ns
        np.maximum.at(nm_stop_ns, self._ecu[self._ignition], ignition_ns[self._ignition])
        if self._coordinator >= 0:
            nm_stop_ns[self._coordinator] = nm_stop_ns.max()
        last_ns = nm_stop_ns[self._ecu]
        room_ns = last_ns - awake.off_ns - FIRST_STOP_NS
        stop_ns = last_ns - self._draw("stop", awake.number, self._draw_as, room_ns)
        stop_ns = np.where(self._basic | self._discovery, last_ns, stop_ns)
        return np.where(self._ignition, ignition_ns, stop_ns), nm_stop_ns

    def _plan(self, awake: Awake) -> Times:
        number, wake_ns = awake.number, awake.wake_ns
        stop_ns, nm_stop_ns = self._stops(awake)
        waker = int(self._nodes[below(self._keys["waker"], np.array([number]), len(self._nodes))[0]])
        kept, running = self._kept(awake)
        if wake_ns == -FOREVER:
            start_ns, nm_start_ns = np.full(len(self._ecu), wake_ns), np.full(len(self._delay_ns), wake_ns)
            irregular = np.zeros(len(self._ecu), np.int64)
            normal_ns = settled_ns = wake_ns
        else:
            nm_start_ns = wake_ns + self._delay_ns
            nm_start_ns[waker] = wake_ns
            start_ns = self._starts(awake, nm_start_ns, running)
            start_ns[kept] = wake_ns
            irregular = 1 + below(self._keys["irregular"], (number << INDEX_BITS) + self._draw_as, IRREGULAR)
            irregular[self._cycle_ns >= IRREGULAR_CYCLE_NS] = 1
            irregular[kept | self._basic | self._discovery | (self._cycle_ns == 0)] = 0
            normal_ns = int(max(start_ns.max(initial=0), nm_start_ns.max() + REPEAT_MESSAGE_NS))
            settling_ns = np.where(self._discovery, SD_START_NS, irregular * self._cycle_ns)
            settled_ns = max(normal_ns, int((start_ns + settling_ns).max(initial=0)))
        return Times(
            nm_start_ns=nm_start_ns,
            nm_stop_ns=nm_stop_ns,
            start_ns=start_ns,
            stop_ns=stop_ns,
            irregular=irregular,
            waker=waker,
            coordinator=self._coordinator,
            normal_ns=min(normal_ns, awake.off_ns),
            settled_ns=settled_ns,
            sleep_ns=int(nm_stop_ns.max()) + BUS_SLEEP_NS,
        )

    def _kept(self, awake: Awake) -> tuple[BoolArray, BoolArray]:
        """PDUs that go on where a shutdown is interrupted, and ECUs that still are in the network."""
        if not awake.quick:
            return np.zeros(len(self._ecu), np.bool_), np.zeros(len(self._delay_ns), np.bool_)
        stop_ns, nm_stop_ns = self._stops(self._awake[awake.number - 1])
        return (stop_ns > awake.wake_ns) & ~self._restarting, nm_stop_ns > awake.wake_ns

    def _starts(self, awake: Awake, nm_start_ns: IntArray, running: BoolArray) -> IntArray:
        nobody = np.zeros(1, np.int64)
        least, most = IGNITION_NS
        ignition_ns = (
            awake.wake_ns + least + int(self._draw("ignition", awake.number, nobody, most - least)[0])
        )
        offset_ns = self._draw("offset", awake.number, self._draw_as, START_OFFSET_NS)
        boot_ns = np.where(running, 0, self._boot_ns)[self._ecu]
        start_ns = nm_start_ns[self._ecu] + boot_ns + offset_ns
        start_ns = np.where(self._ignition, np.maximum(start_ns, ignition_ns + offset_ns), start_ns)
        return np.where(self._basic, nm_start_ns[self._ecu], start_ns)
