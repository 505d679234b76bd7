"""Whether what comes is what the bundle knows, and whether ring and scoring can bear it."""

from collections import Counter
from collections.abc import Sequence

from ecustream.capture.afpacket import BLOCK_BYTES, RETIRE_MS
from ecustream.doctor.facts.traffic import Seen
from ecustream.doctor.findings import Finding, ok, problem, warning
from ecustream.doctor.judge.model import judge_pace
from ecustream.scoring.manifest import BundleInfo

__all__ = ["judge_known", "judge_load", "judge_ring_time", "known_share", "ring_seconds"]

_LEAST_KNOWN, _MOST_KNOWN = 0.1, 0.9
"""Below the first share a run refuses the bundle; up to the second much is told as unknown."""
_BETTER_BY = 0.1
_MISSING = 0.5
_FRAME_OVERHEAD_BYTES = 86
"""Of a frame in the ring: 82 of headers, up to 15 of padding, less the 4 of a VLAN tag."""
_LEAST_RING_S, _GOOD_RING_S = 1.0, 2.0
_MOST_RING_MIB = 2048
_NAMES = 3
_HEARD_CYCLES = 2


def known_share(seen: Seen, known: frozenset[str]) -> float:
    """The share of the lines whose PDU is among these keys; 0 where there is no line."""
    return sum(count for key, count in seen.lines.items() if key in known) / max(1, seen.count)


def judge_known(seen: Seen, info: BundleInfo) -> list[Finding]:
    """Whether the bundle knows these PDUs, by this name of the bus.

    Args:
        seen: some seconds of traffic.
        info: of the bundle.
    """
    check = "bundle and traffic"
    if not seen.count:
        return [_nothing(check, seen)]
    known = frozenset(pdu.key for pdu in info.pdus)
    share = known_share(seen, known)
    bus, better = _best_bus(seen, info)
    figures = {"known_share": round(share, 4), "lines": seen.count, "lines_per_s": round(seen.lines_per_s, 1)}
    says = f"the bundle knows {100 * share:.1f} % of {seen.count:,} lines in {seen.seconds:.1f} s"
    if bus is not None and better > share + _BETTER_BY:
        here = ", ".join(sorted(set(seen.buses.values())))
        says = f"the bundle knows bus {bus}, this one is called {here}: {says}, {100 * better:.1f} % as {bus}"
        return [problem(check, says, f"`--source {bus}`, or input.source", of=seen.of, figures=figures)]
    strange = _strange(seen, known)
    if share < _LEAST_KNOWN:
        advice = "give the bundle of this vehicle with --model, or fit one: `python -m training fit TRACE`"
        return [problem(check, f"{says}, mostly {strange}", advice, of=seen.of, figures=figures)]
    if share < _MOST_KNOWN:
        says = f"{says}; it does not know {strange}"
        advice = "fit it with a newer trace: `python -m training fit TRACE`, or check input.names"
        return [warning(check, says, advice, of=seen.of, figures=figures), *_absent(seen, info)]
    return [ok(check, says, of=seen.of, figures=figures), *_absent(seen, info)]


def judge_load(seen: Sequence[Seen], scored_per_s: float) -> Finding:
    """All that comes together against what can be scored."""
    rate = sum(part.lines_per_s for part in seen)
    says = f"{rate:,.0f} lines/s come, {scored_per_s:,.0f} can be scored"
    figures = {"lines_per_s": round(rate, 1), "scored_per_s": round(scored_per_s, 1)}
    return judge_pace("traffic and scoring", rate, scored_per_s, says, figures)


def judge_ring_time(seen: Seen, ring_mib: int) -> list[Finding]:
    """How long the ring of an interface holds what comes, and whether it was held.

    Args:
        seen: some seconds of its traffic.
        ring_mib: `capture.ring_mib`.
    """
    check = "ring and traffic"
    held_s = ring_seconds(seen, ring_mib)
    says = f"{ring_mib} MiB hold {held_s:.1f} s of this traffic"
    figures = {"ring_s": round(held_s, 2), "frames_per_s": round(seen.frames / max(seen.seconds, 1e-9), 1)}
    wanted = min(_MOST_RING_MIB, round(ring_mib * _GOOD_RING_S / max(held_s, 1e-3)) + 1)
    enlarge = f"capture.ring_mib = {max(wanted, min(2 * ring_mib, _MOST_RING_MIB))}"
    found = [
        Finding("interface", seen.of, "warning", text, "see to cable and link") for text in seen.troubles
    ]
    if seen.dropped:
        says = f"the kernel dropped {seen.dropped:,} of {seen.frames:,} frames, because the ring was full"
        advice = f"{enlarge}, or fewer other processes"
        found.append(problem(check, says, advice, of=seen.of, figures={**figures, "dropped": seen.dropped}))
    elif held_s < _LEAST_RING_S:
        found.append(warning(check, says, enlarge, of=seen.of, figures=figures))
    else:
        found.append(ok(check, says, of=seen.of, figures=figures))
    return found


def ring_seconds(seen: Seen, ring_mib: int) -> float:
    """Seconds until a ring is full: of bytes, or of blocks that are handed over before they are."""
    blocks = (ring_mib << 20) / BLOCK_BYTES
    filled = (seen.frame_bytes + _FRAME_OVERHEAD_BYTES * seen.frames) / max(seen.seconds, 1e-9)
    return blocks / max(filled / BLOCK_BYTES, 1e3 / RETIRE_MS)


def _nothing(check: str, seen: Seen) -> Finding:
    says = f"no line came in {seen.seconds:.1f} s"
    if seen.undecoded:
        says = f"{says}; {seen.undecoded:,} frames and PDUs could not be read"
        return problem(check, says, "give the layout of their sockets: input.layouts", of=seen.of)
    if seen.frames:
        advice = "input.layouts says which ports have PDUs"
        return problem(check, f"{says}, though {seen.frames:,} frames did", advice, of=seen.of)
    came = 0
    if seen.before is not None and seen.after is not None:
        came = seen.after.rx_packets - seen.before.rx_packets
    if came > 0:
        says = f"{says}: {came:,} frames did, none of them UDP"
        return warning(check, says, "check mirror port and wiring; PDUs come over UDP", of=seen.of)
    advice = "switch the vehicle on, or check wiring and mirror port; `--seconds 30` looks longer"
    return warning(check, says, advice, of=seen.of)


def _best_bus(seen: Seen, info: BundleInfo) -> tuple[str | None, float]:
    """The bus of the bundle by whose name it would know most of these lines, and which share that is."""
    known = frozenset(pdu.key for pdu in info.pdus)
    best: tuple[str | None, float] = (None, 0.0)
    for bus in sorted({pdu.source for pdu in info.pdus}):
        renamed: Counter[str] = Counter()
        for key, count in seen.lines.items():
            renamed[_called(key, seen.names[key], seen.buses[key], bus)] += count
        share = sum(count for key, count in renamed.items() if key in known) / seen.count
        if share > best[1]:
            best = bus, share
    return best


def _called(key: str, name: str, bus: str, other: str) -> str:
    """The key (see `ecustream.decode.streams`) of the same PDU on a bus with another name."""
    head = f"{name}|{bus}|"
    return f"{name}|{other}|{key.removeprefix(head)}" if key.startswith(head) else key


def _strange(seen: Seen, known: frozenset[str]) -> str:
    counts: Counter[str] = Counter()
    for key, count in seen.lines.items():
        if key not in known:
            counts[seen.names[key]] += count
    more = len(counts) - _NAMES
    return ", ".join(name for name, _ in counts.most_common(_NAMES)) + (
        f" and {more} more" if more > 0 else ""
    )


def _absent(seen: Seen, info: BundleInfo) -> list[Finding]:
    """A finding where many cyclic PDUs of the bundle do not come, although there was time for two of each."""
    due = [pdu for pdu in info.pdus if 0 < _HEARD_CYCLES * pdu.cycle_ns < seen.seconds * 1e9]
    absent = [pdu.name for pdu in due if pdu.key not in seen.lines]
    if len(absent) <= _MISSING * len(due):
        return []
    says = f"{len(absent)} of {len(due)} cyclic PDUs of the bundle do not come, for instance {absent[0]}"
    advice = "see that all of the bus is mirrored here and all ECUs are awake"
    return [warning("bundle's PDUs", says, advice, of=seen.of)]
