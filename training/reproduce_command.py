"""The command `reproduce`: the paper's experiments again, as one report."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ecustream.errors import ConfigError
from training.options import Seed

__all__ = ["reproduce_command"]


def reproduce_command(
    out: Annotated[Path, typer.Option(help="Folder for the report, and for all that it is made from.")],
    scale: Annotated[
        Literal["tiny", "cpu", "gpu"],
        typer.Option(
            help="cpu: an hour on two cores; gpu: 20 minutes on an H200; tiny: two minutes, to try it."
        ),
    ] = "cpu",
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Keep the runs that are done.")] = False,
) -> None:
    """Make the paper's tables I to IV and figures 6 and 7 again; gives report.html and report.md."""
    from training.measures.page import page
    from training.reproduction.executor import execute
    from training.reproduction.markdown import markdown
    from training.reproduction.records import Failed
    from training.reproduction.report import report
    from training.reproduction.scales import plan_of
    from training.simulate.writer import written_whole

    plan = plan_of(scale, seed)
    try:
        records = execute(plan, out, resume=resume, say=lambda sentence: print(sentence, file=sys.stderr))
    except KeyboardInterrupt:
        print(f"interrupted; what is done is in {out}: --resume goes on with it", file=sys.stderr)
        raise
    made = report(plan, records)
    text, pictures = markdown(*made)
    files = {"report.html": page(*made), "report.md": text, **pictures}
    with written_whole(*(out / name for name in files)) as opened:
        for file, content in zip(opened, files.values(), strict=True):
            file.write(content.encode())
    failed = [name for name, record in records.items() if isinstance(record.result, Failed)]
    if failed:
        raise ConfigError(
            f"{out / 'report.html'}: {len(failed)} of {len(plan.runs)} runs failed ({', '.join(failed)}); "
            "--resume tries them again"
        )
    print(f"{out / 'report.html'}: {len(plan.runs)} runs")
