"""Whether events find their way out: sockets, journal."""

from ecustream.doctor.facts.places import FolderFacts
from ecustream.doctor.findings import Finding, ok, problem, warning

__all__ = ["judge_address", "judge_journal"]

_LEAST_FREE_BYTES = 10_000_000
_MB = 1_000_000


def judge_address(key: str, url: str, trouble: str | None) -> Finding:
    """Whether a socket can be bound; `key` is that of the configuration, such as `publish.pub`."""
    check = f"socket {key}"
    if trouble is None:
        return ok(check, f"{url} is free")
    if "in use" in trouble:
        other = f"`ss -ltnp` says by whom; end it, or set {key} to another one"
        return problem(check, f"{url} is in use; another ecustream may be running", other)
    return problem(check, trouble, f"set {key} to another one")


def judge_journal(facts: FolderFacts, most_bytes: int) -> Finding:
    """Whether the journal can be written, and may become as large as it is allowed to.

    Args:
        facts: its folder.
        most_bytes: `publish.journal_max_bytes`.
    """
    check = "journal"
    if facts.trouble is not None:
        advice = f"make it writable for the user who runs this: `ls -ld {facts.folder}`"
        if "another ecustream" in facts.trouble:
            advice = "end the other one, or give --journal another folder"
        return problem(check, f"{facts.folder}: {facts.trouble}", advice)
    figures = {"free_bytes": facts.free, "used_bytes": facts.used, "most_bytes": most_bytes}
    room = facts.free + facts.used
    says = f"{facts.folder}: {facts.free // _MB:,} MB are free, it may take {most_bytes // _MB:,}"
    if room < min(_LEAST_FREE_BYTES, most_bytes):
        return problem(check, says, f"make room: `df -h {facts.folder}`", figures=figures)
    if room < most_bytes:
        fit = max(_LEAST_FREE_BYTES, room // 2)
        return warning(check, says, f"make room, or publish.journal_max_bytes = {fit}", figures=figures)
    return ok(check, f"{says}{'' if facts.exists else '; it will be made'}", figures=figures)
