"""The command `ecustream bench`: which measurements are wanted, and how they are shown."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ecustream.errors import ConfigError

__all__ = ["bench"]


def bench(
    what: str, model: Path | None, body: Sequence[str], *, device: str, threads: int, as_json: bool
) -> int:
    """Measure and print.

    Args:
        what: `capture`, `score`, `events` or `all`.
        model: of this bundle.
        body: sizes of models with random weights.
        device: `cpu` or `cuda`.
        threads: of the CPU; 0 is one for each core.
        as_json: print JSON instead of tables.

    Returns:
        The exit code: 1 where results disagree that must not.

    Raises:
        EcustreamError: an argument cannot be used.
    """
    kinds = ("capture", "score", "events")
    if what not in (*kinds, "all"):
        raise ConfigError(f"bench {what}: there is no such benchmark; choose {', '.join(kinds)} or all")
    if device not in ("cpu", "cuda"):
        raise ConfigError(f"--device {device}: there is no such device; choose cpu or cuda")
    if what not in ("score", "all") and (model or body):
        raise ConfigError(f"--model and --body choose what `bench score` measures, not `bench {what}`")
    reports: dict[str, Any] = {}
    tables: list[Any] = []
    problems: list[str] = []
    if what in ("capture", "all"):
        from ecustream.bench.capture import bench_capture, render_capture

        reports["capture"] = bench_capture()
        tables.append(render_capture(reports["capture"]))
    if what in ("score", "all"):
        from ecustream.bench.score import bench_score
        from ecustream.bench.tables import disagreements, render_score
        from ecustream.knowledge import DEMO_BUNDLE
        from ecustream.progress import WorkProgress

        chosen = list(body) or ([] if model else ["4x128"])
        with WorkProgress("scoring", 1.0) as progress:
            reports["score"] = bench_score(
                model if model or body else DEMO_BUNDLE,
                chosen,
                device="cuda" if device == "cuda" else "cpu",
                threads=threads,
                on_progress=progress.update,
            )
        tables.append(render_score(reports["score"]))
        problems = disagreements(reports["score"])
    if what in ("events", "all"):
        from ecustream.bench.events import bench_events, render_events

        reports["events"] = bench_events()
        tables.append(render_events(reports["events"]))
    if as_json:
        print(json.dumps(reports if what == "all" else reports[what]))
    else:
        Console().print(*tables, sep="\n")
    for problem in problems:
        print(f"ecustream: {problem}", file=sys.stderr)
    return 1 if problems else 0
