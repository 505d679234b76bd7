"""All kinds of faults and controls by their names."""

from training.simulate.faults.context import LoneReply, NoReply, Order, WrongState
from training.simulate.faults.controls import (
    CaptureLoss,
    CounterFreeze,
    LoggerClockStep,
    ModeChange,
    PayloadFreeze,
)
from training.simulate.faults.drift import Drift
from training.simulate.faults.ecus import ClockStep, EcuStop, GatewayRestart, Overload
from training.simulate.faults.messages import Burst, Delay, Double, Early, Injection, Missing, NmLoss
from training.simulate.faults.network import Duplicate, Reorder, WrongPort, WrongSender
from training.simulate.faults.planned import PlannedFault
from training.simulate.faults.streams import Desync, Phase, WrongCycle

__all__ = ["FAULT_KINDS"]

_KINDS: tuple[type[PlannedFault], ...] = (
    Delay,
    Missing,
    Burst,
    Early,
    Double,
    Duplicate,
    Drift,
    WrongCycle,
    EcuStop,
    GatewayRestart,
    NmLoss,
    Reorder,
    Overload,
    ClockStep,
    Injection,
    WrongState,
    NoReply,
    LoneReply,
    Order,
    Phase,
    Desync,
    WrongPort,
    WrongSender,
    PayloadFreeze,
    CounterFreeze,
    ModeChange,
    CaptureLoss,
    LoggerClockStep,
)

FAULT_KINDS: dict[str, type[PlannedFault]] = {kind.kind: kind for kind in _KINDS}
