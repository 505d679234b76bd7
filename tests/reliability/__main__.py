"""Measures the reliability table and prints it as Markdown: `python -m tests.reliability`."""

import argparse
import os
import platform
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.reliability.row import Row, Scale, Skipped
from tests.reliability.table import MEASURES

_INTERRUPTED = 130


def main(arguments: list[str]) -> int:
    """Measure the rows that were asked for; 1 where one does not hold or failed, 130 if interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"default: all of {', '.join(MEASURES)}")
    parser.add_argument("--short", action="store_true", help="what the tests do; seconds a row")
    chosen = parser.parse_args(arguments)
    for name in chosen.rows:
        if name not in MEASURES:
            parser.error(f"there is no row {name}; choose from {', '.join(MEASURES)}")
    scale: Scale = "short" if chosen.short else "long"
    load = " ".join(f"{load:.1f}" for load in os.getloadavg())
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, load {load}"
    print(f"{machine}; {scale} form\n")
    print("| what | how | seen | holds |\n|---|---|---|---|", flush=True)
    failed = 0
    for name in chosen.rows or MEASURES:
        started_s = time.monotonic()
        try:
            cells, holds = _measured(name, scale)
        except KeyboardInterrupt:
            print(f"{name}: interrupted", file=sys.stderr)
            return _INTERRUPTED
        failed += not holds
        # A cell ends at a bar, and a row at the end of its line.
        print(f"| {' | '.join(' '.join(cell.split()).replace('|', '/') for cell in cells)} |", flush=True)
        print(f"{name}: {time.monotonic() - started_s:.0f} s", file=sys.stderr, flush=True)
    return 1 if failed else 0


def _measured(name: str, scale: Scale) -> tuple[tuple[str, str, str, str], bool]:
    """The four cells of a row, and False where it does not hold."""
    try:
        with tempfile.TemporaryDirectory(prefix=f"ecustream-{name}-") as folder:
            row = MEASURES[name](scale, Path(folder))
    except Skipped as why:
        return (name, "", f"not measured: {why}", "not measured"), True
    except Exception as error:  # what fails is a finding, and the other rows are measured all the same
        traceback.print_exc()
        row = Row(name, "", f"failed: {type(error).__name__}: {error}", False)
    return (row.what, row.how, row.figure, "yes" if row.holds else "**no**"), row.holds


def _interrupted(number: int, frame: object) -> None:
    # Once is enough: a second one would interrupt the clearing up, and end `ip netns del` as well.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    # Namespaces, disks and processes go before this one does.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _interrupted)
    sys.exit(main(sys.argv[1:]))
