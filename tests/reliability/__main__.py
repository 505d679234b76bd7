"""Measures the reliability table and prints it as Markdown: `python -m tests.reliability`."""

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from tests.reliability.row import Row, Scale, Skipped
from tests.reliability.table import MEASURES


def main(arguments: list[str]) -> int:
    """Measure the rows that were asked for; 1 where one does not hold."""
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
            with tempfile.TemporaryDirectory(prefix=f"ecustream-{name}-") as folder:
                row = MEASURES[name](scale, Path(folder))
        except Skipped as why:
            row = Row(name, "", f"not measured: {why}", True)
        failed += not row.holds
        print(f"| {row.what} | {row.how} | {row.figure} | {'yes' if row.holds else '**no**'} |", flush=True)
        print(f"{name}: {time.monotonic() - started_s:.0f} s", file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
