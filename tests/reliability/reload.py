"""SIGHUP under traffic: another bundle takes over, and a damaged one does not."""

import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np

from ecustream.knowledge import DEMO_BUNDLE
from tests.namespaces import wait_for
from tests.reliability.command import wait_for as wait_for_status
from tests.reliability.live_command import capturing, stop
from tests.reliability.network import own_cable
from tests.reliability.notified import Notifications, notified
from tests.reliability.player import playing, stopped
from tests.reliability.row import Row, Scale, amount, times
from tests.reliability.subscriber import scores_by, subscribing
from tests.reliability.vehicle import drive

__all__ = ["measure"]

TIMES: dict[Scale, int] = {"short": 1, "long": 20}
FRAMES_PER_S = 1320
"""2,000 lines a second."""
_LEAST_LINES = 500


def _reload(pid: int, heard: Notifications) -> float:
    """Ask for it and wait until systemd would know that it is over; how long that took, in s."""
    before = len(heard.at_s("READY"))
    os.kill(pid, signal.SIGHUP)
    began_s = time.monotonic()
    wait_for(lambda: len(heard.at_s("READY")) > before, 30)
    return heard.at_s("READY")[-1] - began_s


def measure(scale: Scale, folder: Path) -> Row:
    """See `Measure`: the bundle on the disk is replaced, and then damaged."""
    trace = drive(folder / "clean.pcap", 60)
    bundle = folder / "bundle"
    shutil.copytree(DEMO_BUNDLE, bundle)
    with (
        own_cable("reload"),
        notified(folder) as heard,
        capturing(folder, "--model", bundle) as run,
        subscribing(run.pub, "score/") as subscriber,
        playing("a0", trace, 600, frames_per_s=FRAMES_PER_S) as player,
    ):
        wait_for_status(run, lambda status: status["ledger"]["lines"].get("scored", 0) > _LEAST_LINES)
        took_s = [_reload(run.process.pid, heard) for _ in range(TIMES[scale])]
        weights = bundle / "model.safetensors"
        content = bytearray(weights.read_bytes())
        content[len(content) // 2] ^= 1
        weights.write_bytes(content)
        refused_s = _reload(run.process.pid, heard)
        time.sleep(0.5)
        played = stopped(player)
        time.sleep(0.1)
        ended = stop(run)
        behind_ms = np.array(scores_by(subscriber)) / 1e6
    replaced = ended.errors.count("the bundle was replaced")
    kept = ended.errors.count("the bundle was not replaced")
    frames, lines = ended.books["frames"], ended.books["lines"]
    dropped = frames.get("kernel_dropped", 0)
    exact = played.frames == frames["entered"] and ended.balanced
    reloads = len(heard.at_s("RELOADING"))
    return Row(
        "another bundle is loaded (SIGHUP) under traffic",
        f"2,000 lines/s; SIGHUP {times(len(took_s))} with a sound bundle, then with a damaged one",
        f"replaced {times(replaced)}, each within {max(took_s):.1f} s; the damaged one refused "
        f"{times(kept)}, "
        f"in {refused_s:.1f} s, and the one before kept; {amount(dropped)} of {played.frames:,} frames lost, "
        f"{lines['scored']:,} of {lines['entered']:,} lines scored; at a subscriber scores "
        f"were p50 {np.median(behind_ms):.0f}, max {max(behind_ms):.0f} ms behind the traffic; "
        + ("the ledger balances" if exact else "COUNTS DIFFER"),
        exact
        and not dropped
        and lines["scored"] == lines["entered"]
        and (replaced, kept, reloads) == (len(took_s), 1, len(took_s) + 1)
        and ended.code == 0,
    )
