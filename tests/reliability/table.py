"""All rows, in the order of the table."""

from tests.reliability import (
    burst,
    clock,
    clock_live,
    determinism,
    disk_full,
    interface,
    kill9,
    latency,
    malformed,
    malformed_live,
    order,
    rate,
    read_only,
    reload,
    scoring,
    sigterm,
    soak,
    stall,
    truncated,
    watchdog,
)
from tests.reliability.row import Measure

__all__ = ["MEASURES"]

MEASURES: dict[str, Measure] = {
    "rate": rate.measure,
    "burst": burst.measure,
    "scoring": scoring.measure,
    "stall": stall.measure,
    "latency": latency.measure,
    "interface": interface.measure,
    "clock_live": clock_live.measure,
    "malformed_live": malformed_live.measure,
    "watchdog": watchdog.measure,
    "reload": reload.measure,
    "kill9": kill9.measure,
    "sigterm": sigterm.measure,
    "disk_full": disk_full.measure,
    "read_only": read_only.measure,
    "order": order.measure,
    "clock": clock.measure,
    "malformed": malformed.measure,
    "truncated": truncated.measure,
    "determinism": determinism.measure,
    "soak": soak.measure,
}
"""By the name that chooses a row on the command line."""
