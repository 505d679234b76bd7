"""The command `ecustream doctor`: what is asked for, and how the findings are shown."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from ecustream.bench.machine import machine_line
from ecustream.doctor.examine import Wanted, examine
from ecustream.doctor.findings import exit_code
from ecustream.doctor.report import print_finding, print_sum, report
from ecustream.errors import ConfigError, InputError

__all__ = ["doctor"]


def doctor(
    interfaces: Sequence[str],
    pcap: Path | None,
    model: Path | None,
    *,
    config: Path | None = None,
    source: str | None = None,
    seconds: float = 5.0,
    as_json: bool = False,
) -> int:
    """Look at this machine and print what was found.

    Args:
        interfaces: network interfaces to look at and capture on.
        pcap: a trace to be compared with the bundle instead.
        model: the bundle's folder; None for the configured one.
        config: configuration file; None for the defaults.
        source: bus name to use instead of the traffic's own.
        seconds: how much traffic is compared.
        as_json: print one JSON object at the end.

    Returns:
        The exit code: 1 where there is a problem, else 0.

    Raises:
        EcustreamError: an argument or the trace cannot be used.
    """
    if interfaces and pcap is not None:
        raise ConfigError("give traffic once: either --interface or --pcap")
    for name in interfaces:
        if list(interfaces).count(name) > 1:
            raise ConfigError(f"--interface {name}: is given twice")
    if pcap is not None and not pcap.exists():
        raise InputError(f"{pcap}: cannot be opened: there is no such file")
    wanted = Wanted(interfaces, pcap, model, config, source, seconds)
    if as_json:
        findings = list(examine(wanted))
        print(json.dumps(report(findings, machine_line())))
        return exit_code(findings)
    console = Console()
    with console.status("looking") if console.is_terminal else nullcontext() as status:
        findings = []
        for finding in examine(wanted, lambda what: status.update(what) if status else None):
            findings.append(finding)
            print_finding(finding, console)
    print_sum(findings, console)
    return exit_code(findings)
