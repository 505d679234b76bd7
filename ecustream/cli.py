"""The command line: `ecustream run`, `tail`, `dashboard`, `check`, `bench`, `schema`, `keys`."""

import json
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from ecustream.errors import ConfigError, EcustreamError

__all__ = ["app", "main"]

_WIDE = 400

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Finds what came late, early, out of order or not at all in a vehicle's Ethernet traffic.",
)

keys_app = typer.Typer(no_args_is_help=True, help="Keys for encrypted event sockets.")
app.add_typer(keys_app, name="keys")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"ecustream {version('ecustream')}")
        raise typer.Exit


@app.callback()
def options_of_all(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Finds what came late, early, out of order or not at all in a vehicle's Ethernet traffic."""


@app.command()
def run(
    pcap: Annotated[
        list[Path] | None,
        typer.Option(help="Trace: pcap, pcapng or CSV in the paper's columns, also .gz; repeatable."),
    ] = None,
    interface: Annotated[
        list[str] | None,
        typer.Option(help="Network interface to capture on until stopped; repeatable."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Bundle folder; default: the one for the demo trace.")
    ] = None,
    names: Annotated[Path | None, typer.Option(help="PDU names (CSV); default: the bundle's.")] = None,
    source: Annotated[str | None, typer.Option(help="Bus name to use instead of the trace's own.")] = None,
    speed: Annotated[str | None, typer.Option(help="max, or a multiple of real time.")] = None,
    events: Annotated[
        str | None, typer.Option(help="Write events as JSON lines to this file; - is stdout.")
    ] = None,
    score_log: Annotated[
        Path | None,
        typer.Option(
            help="Write every line's score: .csv or JSON lines, also .gz; "
            "of several traces in a file each, NAME.TRACE.csv."
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Configuration file (TOML).")] = None,
    false_alarms_per_hour: Annotated[
        float | None, typer.Option(help="The budget that sets all thresholds.")
    ] = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", help="episodes, or perplexity as in the paper.")
    ] = None,
    pub: Annotated[str | None, typer.Option(help="Address of the event socket (PUB).")] = None,
    reply: Annotated[str | None, typer.Option(help="Address of the snapshot and replay socket.")] = None,
    journal: Annotated[
        Path | None, typer.Option(help="Folder that keeps events for replays over a restart.")
    ] = None,
    format_: Annotated[str | None, typer.Option("--format", help="json or msgpack, on both sockets.")] = None,
    no_publish: Annotated[bool, typer.Option("--no-publish", help="Open no sockets.")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of any configuration key.")
    ] = None,
    fail_on_anomaly: Annotated[bool, typer.Option(help="Exit with 1 if there was any episode.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Print where the time went.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")] = False,
) -> None:
    """Score traces, or what comes on network interfaces, and report the anomalies."""
    hangups: list[int] = []
    if interface:
        # By default it ends the process, and systemd takes that for a stop and does not start it again.
        signal.signal(signal.SIGHUP, lambda number, _: hangups.append(number))
    from ecustream.config import load_config
    from ecustream.knowledge import bundle_folder
    from ecustream.progress import WorkProgress
    from ecustream.report import print_summary
    from ecustream.run.clashes import refuse_clashes
    from ecustream.service import Run
    from ecustream.stages import StageClock, render_profile
    from ecustream.supervisor import Supervisor
    from ecustream.systemd import is_journal

    if bool(pcap) == bool(interface):
        raise ConfigError("give what to read: either --pcap or --interface")
    if journal is not None and no_publish:
        raise ConfigError("--journal keeps events for the sockets, which --no-publish does not open")
    overrides: dict[str, Any] = dict(_key_value(text) for text in set_ or [])
    overrides |= {
        "input.names": None if names is None else str(names),
        "input.source": source,
        "scoring.speed": speed,
        "scoring.model": None if model is None else str(model),
        "detect.false_alarms_per_hour": false_alarms_per_hour,
        "detect.filter": filter_,
        "publish.pub": pub,
        "publish.reply": reply,
        "publish.format": format_,
        "publish.journal": None if journal is None else str(journal),
        "publish.enabled": False if no_publish else None,
    }
    overrides = {key: value for key, value in overrides.items() if value is not None}
    settings = load_config(config, overrides)
    bundle = bundle_folder(settings)
    refuse_clashes(
        [*(pcap or []), config, names, *(sorted(bundle.glob("*")) if bundle.is_dir() else [])],
        [Path(events) if events not in (None, "-") else None, score_log],
    )
    # A service has a log, which gets only what is news; how it is doing is in the status message.
    service = bool(interface) or is_journal(sys.stderr)
    say = None
    if service:
        from ecustream.logs import log_sentences

        say = log_sentences()
    clock = StageClock(enabled=profile)
    show: list[Callable[[float, str], None]] = []
    with Supervisor(settings.metrics.port, partial(say, "error") if say else None) as supervisor:
        work = Run(
            settings,
            pcap or [],
            bundle,
            interfaces=interface or [],
            events=events,
            score_log=score_log,
            on_progress=lambda done, note: show[0](done, note) if show else None,
            clock=clock,
            say=say,
            supervisor=supervisor,
        )
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: work.stop())
        if work.reloads:
            terminal = sys.stderr.isatty()
            # A terminal that is closed sends it as well, and nobody would ever end what goes on without it.
            signal.signal(
                signal.SIGHUP,
                lambda *_: work.stop() if terminal and not sys.stderr.isatty() else work.reload(),
            )
            if hangups:
                work.reload()
        # A bar and a log do not share a terminal.
        shown = not quiet and not service
        with WorkProgress("scoring", work.total_bytes, shown=shown) as progress:
            show.append(progress.update)
            summary = work.execute()
        for number in (signal.SIGINT, signal.SIGTERM):
            # It is over; what is left is to say how it was.
            signal.signal(number, signal.SIG_IGN)
    console = Console(stderr=events == "-")
    if not console.is_terminal:
        # A file or a pipe gets whole lines, to be searched.
        console = Console(file=console.file, width=_WIDE)
    if not quiet:
        print_summary(summary, console)
    if profile:
        console.print(render_profile(clock.rows(), summary.seconds))
    for problem in summary.problems:
        if say is not None:
            say("warning", problem)
        else:
            print(f"ecustream: {problem}", file=sys.stderr)
    if summary.interrupted:
        raise typer.Exit(130)
    if fail_on_anomaly and summary.episodes.total():
        raise typer.Exit(1)


@app.command()
def tail(
    connect: Annotated[
        str,
        typer.Option(
            metavar="PUB[,REPLY]",
            help="Addresses of an ecustream; the reply port is the next one unless given.",
        ),
    ] = "tcp://127.0.0.1:5556",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many events.")] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="RUN:SEQ", help="Go on after this event; start: from the oldest there is."),
    ] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only events of this kind; repeatable.")] = None,
    server_key: Annotated[Path | None, typer.Option(help="Public key file of that ecustream.")] = None,
    key: Annotated[Path | None, typer.Option(help="Your own secret key file.")] = None,
) -> None:
    """Follow the events of a running ecustream."""
    from ecustream.publish.keys import read_public, read_secret
    from ecustream.tail.command import tail as follow

    if (server_key is None) != (key is None):
        raise ConfigError("--server-key and --key belong together; give both or neither")
    keys = None if server_key is None or key is None else (read_public(server_key), read_secret(key))
    follow(connect, json=as_json, count=count, since=since, kinds=kind, keys=keys)


@app.command()
def dashboard(
    connect: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PUB[,REPLY]",
            help="Addresses of an ecustream, repeatable; the reply port is the next one unless given.",
        ),
    ] = None,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the page is.")] = "127.0.0.1:8050",
    allow_remote: Annotated[bool, typer.Option("--allow-remote", help="Let other machines see it.")] = False,
    server_key: Annotated[
        list[Path] | None,
        typer.Option(help="Public key file of the ecustreams, or one for each in their order; repeatable."),
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Your own secret key file.")] = None,
) -> None:
    """Show one or several running ecustreams on a web page."""
    try:
        from ecustream.dashboard.server import serve
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing not in ("starlette", "uvicorn"):
            raise
        raise ConfigError(f"{missing} is not installed; pip install '.[dashboard]'") from None
    from ecustream.publish.keys import KeyPair, read_public, read_secret

    urls = connect or ["tcp://127.0.0.1:5556"]
    keys: list[tuple[bytes, KeyPair]] = []
    if server_key and key is not None:
        own = read_secret(key)
        keys = [(read_public(path), own) for path in server_key]
        keys *= len(urls) if len(keys) == 1 else 1
    elif server_key or key is not None:
        raise ConfigError("--server-key and --key belong together; give both or neither")
    if keys and len(keys) != len(urls):
        raise ConfigError(
            f"--server-key is given {len(keys)} times; give it once, or once for each --connect"
        )
    serve(urls, listen, allow_remote=allow_remote, keys=keys)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="Configuration file (TOML).")],
    effective: Annotated[bool, typer.Option("--effective", help="Print what is in force.")] = False,
) -> None:
    """Check a configuration file; says which key is wrong and why."""
    from ecustream.config import load_config
    from ecustream.doctor.facts.settings import check_settings
    from ecustream.effective import effective_toml
    from ecustream.scoring.manifest import read_bundle

    settings = load_config(file)
    try:
        check_settings(settings)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None
    if settings.scoring.model is not None:
        read_bundle(Path(settings.scoring.model))
    print(effective_toml(settings) if effective else f"{file}: valid")


@app.command()
def doctor(
    interface: Annotated[
        list[str] | None, typer.Option(help="Network interface to look at and capture on; repeatable.")
    ] = None,
    pcap: Annotated[Path | None, typer.Option(help="Trace to compare the bundle with instead.")] = None,
    model: Annotated[Path | None, typer.Option(help="Bundle folder; default: the configured one.")] = None,
    config: Annotated[Path | None, typer.Option(help="Configuration file (TOML).")] = None,
    source: Annotated[str | None, typer.Option(help="Bus name to use instead of the traffic's own.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="How much traffic is compared.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Can this machine capture and score? Exit code 1 where there is a problem."""
    from ecustream.doctor.command import doctor as look

    code = look(interface or [], pcap, model, config=config, source=source, seconds=seconds, as_json=as_json)
    raise typer.Exit(code)


@app.command()
def bench(
    what: Annotated[str, typer.Argument(help="capture, score, events or all")] = "capture",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    model: Annotated[Path | None, typer.Option(help="score: measure the model of this bundle.")] = None,
    body: Annotated[
        list[str] | None,
        typer.Option(
            help="score: measure random weights: 4x128, 2M, 25M, 0.4B or all; repeatable. "
            "Default: the shipped bundle and 4x128."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="score: cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=0, help="score: CPU threads; 0 is one for each core.")] = 0,
) -> None:
    """Measure this machine: packets read, lines scored, or how fast events reach their readers."""
    from ecustream.bench.command import bench as measure

    raise typer.Exit(measure(what, model, body or [], device=device, threads=threads, as_json=as_json))


@app.command()
def schema(
    asyncapi: Annotated[bool, typer.Option("--asyncapi", help="AsyncAPI 3.0: both sockets as well.")] = False,
) -> None:
    """Print the JSON Schema of events, status and scores."""
    if asyncapi:
        from ecustream.publish.asyncapi import asyncapi_document

        print(json.dumps(asyncapi_document(), indent=2))
    else:
        from ecustream.publish.messages import json_schemas

        print(json.dumps(json_schemas(), indent=2))


@keys_app.command("new")
def keys_new(
    name: Annotated[str, typer.Argument(help="Whose keys; the files are NAME.secret and NAME.public.")],
    folder: Annotated[Path, typer.Option("--dir", help="Where to write them.")] = Path(),
) -> None:
    """Make a pair of keys, for the publisher or for one who reads."""
    from ecustream.publish.keys import make_pair

    secret, public = make_pair(name, folder)
    print(f"{secret}: keep it secret\n{public}: give it to the other side")


def _key_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text}: write KEY=VALUE")
    return key.strip(), value.strip()


def run_app(application: typer.Typer, program: str) -> None:
    """Run a typer app; an `EcustreamError` becomes one sentence on stderr and its exit code."""
    try:
        application(prog_name=program)
    except EcustreamError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"{program}: {escape(str(error))}")
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("ecustream", "training"):
            raise
        print(f"{program}: {error.name} is not installed; pip install '.[train]'", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away; there is nobody to tell.
        sys.stderr.close()
        sys.exit(0)


def main() -> None:
    """Entry point of the command `ecustream`."""
    run_app(app, "ecustream")
