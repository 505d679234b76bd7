"""The command `tokenizer`: what each kind of tokenizer makes of traffic."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ecustream.decode.names import NameTable
from ecustream.errors import ConfigError, OutputError
from training.options import Names, Source

__all__ = ["tokenizer_command"]


def tokenizer_command(
    traces: Annotated[list[Path], typer.Argument(help="Clean traces of one vehicle: captures or CSV.")],
    kinds: Annotated[
        str, typer.Option(help="Kinds, separated by commas.")
    ] = "fields,bpe,bpe-binned,group,row",
    out: Annotated[
        Path | None, typer.Option(help="Folder that gets KIND.json, as the tokenizers library reads it.")
    ] = None,
    names: Names = None,
    source: Source = None,
) -> None:
    """Make tokenizers from the first 70 % of each trace, and say what they make of the last 20 %.

    `fit` and `pretrain` make their own; this is to look at them.
    """
    from training.assemble import learn, read_parts
    from training.fit import learn_tokenizer
    from training.splits import split_drives
    from training.tokenizers import KINDS, describe
    from training.traces import Traces

    wanted = [kind.strip() for kind in kinds.split(",")]
    for kind in wanted:
        if kind not in KINDS:
            raise ConfigError(f"there is no tokenizer {kind!r}, only {', '.join(KINDS)}")
    read = Traces(traces, None if names is None else NameTable.load(names), source=source)
    known = learn(read)

    parts = split_drives(known.line_counts)
    table = Table(box=None, pad_edge=False)
    for heading in ("tokenizer", "vocabulary", "tokens a line", "lines with unknown tokens"):
        table.add_column(heading, justify="left" if heading == "tokenizer" else "right")
    for kind in wanted:
        tokenizer = learn_tokenizer(read, kind, known, parts.train)
        report = describe(tokenizer, read_parts(read, "tokenizing", known, parts.test))
        share = f"{100 * report.unknown_lines_share:.3f} %"
        table.add_row(report.name, f"{report.vocabulary:,}", f"{report.tokens_per_line:.2f}", share)
        if out is not None:
            _write(out / f"{report.name}.json", tokenizer.to_json())
    Console(width=None if sys.stdout.isatty() else 100).print(table)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.write_text(text)
        new.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from None
