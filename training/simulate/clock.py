"""Clocks: the times at which the activations of a sender's task are due."""

from dataclasses import dataclass
from typing import TypeVar

from training.draws import Draws, IntArray
from training.simulate.vehicle import EcuModel, Vehicle

__all__ = ["Clock", "ecu_clock", "pdu_clock"]

Number = TypeVar("Number", int, IntArray)

PPB = 1_000_000_000
MAX_DRIFT_PPB = 100_000
BUSES = 3


@dataclass(frozen=True, slots=True)
class Clock:
    """Activation k, 0 or more, is due at anchor + k * raster, stretched by the drift.

    Attributes:
        anchor_ns: time of activation 0, from the start of the trace.
        raster_ns: distance of the activations on this clock.
        drift_ppb: how slow it is, in parts per billion.
    """

    anchor_ns: int
    raster_ns: int
    drift_ppb: int

    def time_ns(self, activation: Number) -> Number:
        """When activations are due; exact for a year and more."""
        elapsed_ns = activation * self.raster_ns
        # In two steps, so that days of nanoseconds do not overflow.
        return self.anchor_ns + elapsed_ns + elapsed_ns // 1000 * self.drift_ppb // 1_000_000

    def first_from(self, time_ns: int) -> int:
        """The first activation that is due at `time_ns` or later."""
        estimate = (time_ns - self.anchor_ns) * PPB // (self.raster_ns * (PPB + self.drift_ppb))
        activation = max(0, estimate - 1)
        while self.time_ns(activation) < time_ns:
            activation += 1
        return activation

    def activations(self, duration_ns: int) -> int:
        """A duration in activations, rounded up; at least 1."""
        return max(1, -(-duration_ns // self.raster_ns))


def ecu_clock(ecu: EcuModel) -> Clock:
    """The clock of an ECU's own task."""
    return Clock(ecu.anchor_ns, ecu.raster_ns, ecu.drift_ppb)


def pdu_clock(vehicle: Vehicle, index: int) -> Clock:
    """The clock that a PDU's cycle follows: its ECU's, or for a forwarded one that of another bus.

    PDUs of one of the gateway's buses have the drift in common, each has its place in the raster.
    """
    pdu = vehicle.pdus[index]
    ecu = vehicle.ecus[pdu.ecu]
    if not pdu.forwarded:
        return ecu_clock(ecu)
    own = Draws("forwarded", vehicle.seed, index)
    bus = Draws("bus", vehicle.seed, pdu.ecu, own.integer(1, BUSES))
    drift_ppb = bus.integer(-MAX_DRIFT_PPB, MAX_DRIFT_PPB)
    return Clock(own.integer(0, ecu.raster_ns - 1), ecu.raster_ns, drift_ppb)
