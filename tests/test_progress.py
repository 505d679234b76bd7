"""Progress of long work where there is no terminal."""

import time

import pytest

from ecustream.progress import WorkProgress


def test_plain_lines_with_a_time_to_go(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At most every ten seconds a line says how much is done, how long it will take, and the note."""
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    with WorkProgress("scoring", total=200) as work:
        for at_s, done in ((105.0, 10), (111.0, 50), (112.0, 60), (122.0, 100)):
            now_s = at_s
            work.update(done, "5 episodes")
    assert capsys.readouterr().err.splitlines() == [
        "scoring: 25 %, 33 s to go; 5 episodes",
        "scoring: 50 %, 22 s to go; 5 episodes",
    ]


def test_unknown_total_and_nothing_to_show(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a total there is the note alone, and `shown=False` says nothing."""
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    for shown in (True, False):
        with WorkProgress("scoring", total=None, shown=shown) as work:
            now_s += 20.0
            work.update(10, "3 lines")
    assert capsys.readouterr().err == "scoring: 3 lines\n"
