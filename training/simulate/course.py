"""How a PDU is sent while the vehicle is awake: start-up, running, shutdown; modes and faults apart."""

from collections.abc import Sequence

from training.simulate.awake import Awake, Planner, Times
from training.simulate.clock import pdu_clock
from training.simulate.nm import nm_shutdown, nm_start, sd_start
from training.simulate.segments import FOREVER, Segment, clip
from training.simulate.vehicle import Vehicle

__all__ = ["Courses"]


class Courses:
    """The segments of each PDU in each time awake.

    Args:
        vehicle: whose PDUs.
        planner: says when they start and stop.
        awake: from `awake_times`.
    """

    def __init__(self, vehicle: Vehicle, planner: Planner, awake: Sequence[Awake]) -> None:
        self._vehicle = vehicle
        self._planner = planner
        self._awake = awake
        self._clocks = [pdu_clock(vehicle, pdu) for pdu in range(len(vehicle.pdus))]

    def segments(self, pdu: int, number: int) -> list[Segment]:
        """How `pdu` is sent in the time awake `number`, in order of time."""
        awake = self._awake[number]
        times = self._planner.times(number)
        if self._vehicle.pdus[pdu].role in ("nm", "sd"):
            segments = self._restarting(pdu, awake, times)
        else:
            segments = self._ordinary(pdu, awake, times)
        return clip(segments, awake.wake_ns, min(awake.end_ns, int(times.stop_ns[pdu])))

    def _ordinary(self, pdu: int, awake: Awake, times: Times) -> list[Segment]:
        model, clock = self._vehicle.pdus[pdu], self._clocks[pdu]
        at_ns = int(times.start_ns[pdu])
        segments = []
        cycle_ns = model.cycle_ns or 0
        for interval in range(int(times.irregular[pdu])):
            period = clock.activations(cycle_ns)
            if interval == 0:
                shift = (clock.first_from(at_ns) - model.phase) % period
            else:
                shift = self._planner.irregular_shift(awake.number, pdu, interval, period)
            segments.append(Segment(at_ns, at_ns + cycle_ns, cycle_ns, shift))
            at_ns += cycle_ns
        segments.append(Segment(at_ns, FOREVER, cycle_ns))
        return segments

    def _restarting(self, pdu: int, awake: Awake, times: Times) -> list[Segment]:
        """Network management and service discovery: they begin anew also where they kept running."""
        segments = self._begun(pdu, awake.number)
        if awake.quick:
            before = self._planner.times(awake.number - 1)
            until_ns = min(segments[0].start_ns, int(before.stop_ns[pdu]))
            segments = clip(self._begun(pdu, awake.number - 1), awake.wake_ns, until_ns) + segments
        model = self._vehicle.pdus[pdu]
        if model.role == "nm" and model.ecu == times.coordinator and awake.off_ns < FOREVER:
            return nm_shutdown(segments, awake.off_ns, int(times.stop_ns[pdu]))
        return segments

    def _begun(self, pdu: int, number: int) -> list[Segment]:
        model, clock = self._vehicle.pdus[pdu], self._clocks[pdu]
        if self._awake[number].wake_ns == -FOREVER:
            return [Segment(-FOREVER, FOREVER, model.cycle_ns or 0)]
        times = self._planner.times(number)
        if model.role == "sd":
            return sd_start(model, clock, int(times.start_ns[pdu]))
        return nm_start(model, clock, int(times.start_ns[pdu]), times.waker == model.ecu)
