"""The order in which a machine is looked at: what is quick and needs nothing first, traffic last."""

import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ecustream.config import Config
from ecustream.doctor.facts.card import CardFacts, read_card
from ecustream.doctor.facts.clock import ClockFacts, read_clock
from ecustream.doctor.facts.gpu import read_gpus
from ecustream.doctor.facts.link import read_link
from ecustream.doctor.facts.machine import read_cores, read_memory
from ecustream.doctor.facts.model import ModelFacts, measure_model
from ecustream.doctor.facts.places import address_trouble, read_folder
from ecustream.doctor.facts.right import capture_refusal, try_ring
from ecustream.doctor.facts.settings import check_settings, read_settings
from ecustream.doctor.facts.traffic import Seen, listen, read_trace
from ecustream.doctor.findings import Finding, ok, problem, unchecked
from ecustream.doctor.judge.clock import judge_clock, judge_hardware_clock
from ecustream.doctor.judge.gpu import judge_gpu
from ecustream.doctor.judge.interface import judge_link, judge_losses, judge_right, judge_ring
from ecustream.doctor.judge.machine import judge_cores, judge_governor, judge_memory
from ecustream.doctor.judge.model import judge_speed
from ecustream.doctor.judge.offloads import judge_offloads
from ecustream.doctor.judge.places import judge_address, judge_journal
from ecustream.doctor.judge.traffic import judge_known, judge_load, judge_ring_time
from ecustream.errors import ConfigError, EcustreamError
from ecustream.knowledge import bundle_folder
from ecustream.scoring.manifest import BundleFiles, read_bundle

__all__ = ["Wanted", "examine"]

_NO_LINUX = "live capture needs Linux (AF_PACKET)"
_TRAFFIC = "bundle and traffic"


@dataclass(frozen=True)
class Wanted:
    """What is to be looked at.

    Attributes:
        interfaces: to capture on.
        trace: a trace to be read instead.
        model: the bundle's folder; None for the configured one.
        config: the configuration file.
        source: bus name to use instead of the traffic's own.
        seconds: of traffic.
    """

    interfaces: Sequence[str]
    trace: Path | None
    model: Path | None
    config: Path | None
    source: str | None
    seconds: float


def examine(wanted: Wanted, tell: Callable[[str], None] = lambda what: None) -> Iterator[Finding]:
    """The findings, each as soon as it is there.

    Args:
        wanted: what is to be looked at.
        tell: is told what takes a while.

    Raises:
        EcustreamError: the trace cannot be read.
    """
    # As they are before this process itself takes its share.
    cores, memory = read_cores(), read_memory()
    clock = read_clock()
    config, finding = _settings(wanted)
    yield finding
    linux = hasattr(socket, "AF_PACKET")
    refusal = capture_refusal() if linux else None
    if linux:
        yield judge_right(refusal, str(Path(sys.executable).resolve()))
    else:
        yield unchecked("right to capture", _NO_LINUX, "record a trace and use --pcap")
    able: list[str] = []
    for name in wanted.interfaces if linux else ():
        findings = list(_interface(name, config, clock, may_capture=refusal is None))
        yield from findings
        if refusal is None and not any(finding.level == "problem" for finding in findings[:2]):
            able.append(name)
    yield judge_cores(cores, config.scoring.threads)
    yield judge_governor(cores)
    files, refused = _bundle(wanted.model or bundle_folder(config))
    weights = len(files.data["model.safetensors"]) if files else 0
    yield judge_memory(memory, len(wanted.interfaces), config.capture.ring_mib, weights)
    yield from judge_clock(clock)
    yield from _places(config)
    tell("looking for a GPU")
    yield judge_gpu(read_gpus(), config.scoring.device)
    if files is None:
        yield refused
        yield unchecked(_TRAFFIC, "there is no bundle to compare with", "give one with --model")
        return
    tell("measuring the bundle")
    facts, finding = _model(config, files)
    yield finding
    yield from _traffic(wanted, config, files, facts, able, tell)


def _settings(wanted: Wanted) -> tuple[Config, Finding]:
    """The configuration, or the defaults where it is of no use."""
    check = "configuration"
    try:
        config = read_settings(wanted.config, wanted.source)
        check_settings(config)
    except EcustreamError as error:
        says = f"{error}; all else is judged by the defaults"
        advice = f"mend it until `ecustream check {wanted.config}` says valid"
        return read_settings(None, wanted.source), problem(check, says, advice)
    return config, ok(check, f"{wanted.config}: valid" if wanted.config else "the defaults")


def _interface(name: str, config: Config, clock: ClockFacts, *, may_capture: bool) -> Iterator[Finding]:
    link = read_link(name)
    card = read_card(name) if link else CardFacts()
    others = [other for _, other in socket.if_nameindex()]
    findings = judge_link(name, link, card, others)
    yield from findings[:1]
    if link is None:
        return
    if not may_capture:
        yield unchecked("ring", "without the right to capture", "see the right to capture", of=name)
    elif findings[0].level == "ok":
        yield from judge_ring(name, try_ring(link.index, name, config.capture), config.capture, card)
    yield from findings[1:]
    yield from judge_offloads(name, card, config.capture)
    yield judge_losses(name, None, link, card)
    yield judge_hardware_clock(name, card.clock, clock)


def _places(config: Config) -> Iterator[Finding]:
    publish = config.publish
    if config.metrics.port:
        url = f"tcp://127.0.0.1:{config.metrics.port}"
        yield judge_address("metrics.port", url, address_trouble(url, "metrics.port", publish))
    if not publish.enabled:
        yield ok("sockets", "there are none: publish.enabled is false")
        return
    for key, url in (("publish.pub", publish.pub), ("publish.reply", publish.reply)):
        yield judge_address(key, url, address_trouble(url, key, publish))
    if publish.journal is not None:
        yield judge_journal(read_folder(Path(publish.journal)), publish.journal_max_bytes)


def _bundle(model: Path) -> tuple[BundleFiles | None, Finding]:
    check = "bundle"
    try:
        files = read_bundle(model)
    except EcustreamError as error:
        return None, problem(check, str(error), "give one with --model, or make it: `python -m training fit`")
    return files, ok(check, f"{model}: whole")


def _model(config: Config, files: BundleFiles) -> tuple[ModelFacts | None, Finding]:
    try:
        facts = measure_model(config, files)
    except ConfigError as error:
        return None, problem("scoring", str(error), 'scoring.device = "cpu" needs no GPU')
    except EcustreamError as error:
        return None, problem("scoring", str(error), "give another bundle with --model")
    return facts, judge_speed(facts)


def _traffic(
    wanted: Wanted,
    config: Config,
    files: BundleFiles,
    facts: ModelFacts | None,
    able: Sequence[str],
    tell: Callable[[str], None],
) -> Iterator[Finding]:
    info = files.info
    for name in wanted.interfaces:
        if name not in able:
            yield unchecked(_TRAFFIC, "it cannot be captured on", "see what is said of it above", of=name)
    seen: list[Seen] = []
    if wanted.trace is not None:
        tell(f"reading {wanted.seconds:g} s of {wanted.trace.name}")
        seen = [read_trace(config, info, wanted.trace, wanted.seconds)]
    elif able:
        tell(f"capturing on {', '.join(able)} for {wanted.seconds:g} s")
        try:
            seen = listen(config, info, able, wanted.seconds)
        except EcustreamError as error:
            yield problem(_TRAFFIC, str(error), "try again; the interface has changed meanwhile")
    elif not wanted.interfaces:
        yield unchecked(_TRAFFIC, "no traffic was given", "`ecustream doctor --interface eth1`, or --pcap")
    for part in seen:
        yield from judge_known(part, info)
        if part.after is not None:
            yield from judge_ring_time(part, config.capture.ring_mib)
            yield judge_losses(part.of, part.before, part.after, read_card(part.of))
    if facts is not None and any(part.count for part in seen):
        yield judge_load(seen, facts.lines_per_s)
