"""What is said of sockets and the journal."""

from pathlib import Path

import pytest

from ecustream.doctor.facts.places import FolderFacts
from ecustream.doctor.judge.places import judge_address, judge_journal

FOLDER = Path("/var/lib/ecustream/eth1/journal")


def test_address() -> None:
    """A free address is well; one in use, or that cannot be, is a problem of its option."""
    assert judge_address("--pub", "tcp://127.0.0.1:5556", None).level == "ok"
    used = judge_address("--reply", "tcp://127.0.0.1:5557", "tcp://127.0.0.1:5557 is in use; is another …")
    assert (used.level, "--reply" in (used.advice or "")) == ("problem", True)
    wrong = judge_address(
        "publish.pub", "ipc:///none/pub", "ipc:///none/pub cannot be bound: there is no folder"
    )
    assert (wrong.level, "publish.pub" in (wrong.advice or "")) == ("problem", True)


@pytest.mark.parametrize(
    ("facts", "level"),
    [
        (FolderFacts(FOLDER, None, free=200_000_000), "ok"),
        (FolderFacts(FOLDER, None, free=50_000_000, used=50_000_000), "ok"),
        (FolderFacts(FOLDER, None, free=50_000_000), "warning"),
        (FolderFacts(FOLDER, None, free=9_000_000), "problem"),
        (FolderFacts(FOLDER, "it cannot be used: Permission denied"), "problem"),
        (FolderFacts(FOLDER, "another ecustream writes to it"), "problem"),
    ],
)
def test_journal(facts: FolderFacts, level: str) -> None:
    """There must be room for the journal as large as it may become; what it has already is its own."""
    assert judge_journal(facts, 100_000_000).level == level


def test_small_journal() -> None:
    """A journal that may not become large needs no more than that."""
    assert judge_journal(FolderFacts(FOLDER, None, free=2_000_000), 1_000_000).level == "ok"
