"""Tables for the terminal from what `bench_score` returned."""

from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ecustream.bench.shares import KINDS

__all__ = ["disagreements", "render_score"]

Report = dict[str, Any]


def render_score(report: Report) -> Group:
    """All tables, one group for each body."""
    parts: list[RenderableType] = [Text(_machine(report))]
    for body in report["bodies"]:
        if body["note"]:
            parts.append(Text(f"\n{body['name']}: {body['note']}"))
            continue
        findings = (Text(line) for line in _findings(body))
        parts += [Text(f"\n{_sizes(body)}"), _speed(body), *findings, _latency(body), _work(body)]
    return Group(*parts)


def disagreements(report: Report) -> list[str]:
    """A sentence for each body whose scores are not those of transformers."""
    return [
        f"{body['name']}: its scores are not those of {row['with']}: {_difference(row)}"
        for body in report["bodies"]
        for row in body.get("agreement", ())
        if row["agrees"] is False
    ]


def _machine(report: Report) -> str:
    versions = ", ".join(f"{name} {version or 'missing'}" for name, version in report["versions"].items())
    return (
        f"{report['machine']}; load average before: {report['load']:.1f}\n"
        f"{versions}; device {report['device']}, {report['threads']} threads"
    )


def _sizes(body: Report) -> str:
    return (
        f"{body['name']}: {body['parameters'] / 1e6:,.2f} M parameters, {body['layers']} layers of "
        f"{body['hidden']}, window {body['window']}, {body['tokens_per_line']} tokens a line, {body['dtype']}"
    )


def _speed(body: Report) -> Table:
    table = Table(
        caption="chunk: lines a call; window: all of it again for each line", caption_justify="left"
    )
    table.add_column("who", no_wrap=True)
    for column in ("chunk", "lines/s", "median", "tokens/s", "ecustream is"):
        table.add_column(column, justify="right")
    before = None
    for row in body["speed"]:
        if before not in (None, row["who"]):
            table.add_section()
        before = row["who"]
        if row["note"]:
            table.add_row(row["who"], f"{row['chunk_lines']:,}", "-", "-", "-", "-")
            continue
        ratio = row["ours_is"]
        table.add_row(
            row["who"],
            f"{row['chunk_lines']:,}",
            *(f"{row[key]:,.0f}" for key in ("lines_per_s", "lines_per_s_median", "tokens_per_s")),
            "" if ratio is None or row["who"] == body["best"]["who"] else f"x {ratio:,.2f}",
        )
    return table


def _findings(body: Report) -> Iterator[str]:
    for who, note in {row["who"]: row["note"] for row in body["speed"] if row["note"]}.items():
        yield f"{who}: {note}"
    for who, ratio in body["best_is"].items():
        yield f"At its best chunk ecustream is x {ratio:,.1f} {who} at its best"
    products, best = body["products"], body["best"]
    shape = " x ".join(f"{size:,}" for size in products["shape"])
    yield (
        f"Matrix products here: {products['flops_per_s'] / 1e9:,.0f} GFLOP/s ({products['way']}, "
        f"{products['dtype']}, {shape})"
    )
    reached = best["tokens_per_s"] * body["flops_per_token"]
    yield (
        f"Reached: {reached / 1e9:,.1f} GFLOP/s = {100 * body['of_products']:.1f} % of it, "
        f"at {body['flops_per_token']:,} FLOPs a token, {best['chunk_lines']:,} lines a call"
    )
    for row in body["agreement"]:
        outcome = (
            row["note"] or f"{'the same scores' if row['agrees'] else 'OTHER SCORES'}: {_difference(row)}"
        )
        yield f"{row['with']}: {outcome}"


def _difference(row: Report) -> str:
    return (
        f"largest difference {row['max_nats']:.1e} nats, mean {row['mean_nats']:.1e}, "
        f"over {row['tokens']:,} tokens (allowed {row['tolerance_nats']:g})"
    )


def _latency(body: Report) -> Table:
    table = Table(title="From arrival to score", title_justify="left")
    for column in ("lines/s", "lines a call", "p50 ms", "p99 ms", "max ms"):
        table.add_column(column, justify="right")
    for row in body["latency"]:
        if row["note"]:
            table.add_row(f"{row['lines_per_s']:,.0f}", row["note"])
            continue
        times = (f"{row[key]:,.2f}" for key in ("p50_ms", "p99_ms", "max_ms"))
        table.add_row(f"{row['lines_per_s']:,.0f}", f"{row['lines'] / row['calls']:,.1f}", *times)
    return table


def _work(body: Report) -> Table:
    table = Table(title="Where the time goes, %", title_justify="left")
    table.add_column("chunk", no_wrap=True)
    for row in body["work"]:
        table.add_column(f"{row['chunk_lines']:,}", justify="right")
    for kind in KINDS:
        if kind == "fused attention" and not any(row["shares"][kind] for row in body["work"]):
            continue
        table.add_row(kind, *(f"{100 * row['shares'][kind]:.0f}" for row in body["work"]))
    table.add_section()
    table.add_row("the profiler made it longer", *(f"x {row['slowdown']:.2f}" for row in body["work"]))
    return table
