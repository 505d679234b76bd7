"""What is made of the lines of one lane."""

from pathlib import Path
from typing import Any, cast

from ecustream.ledger import Ledger
from ecustream.run.replay import Pacer
from ecustream.run.summary import RunSummary
from ecustream.run.tracks import Track
from tests.run.test_lanes import make

UNUSED = cast(Any, None)


def test_it_is_not_behind_before_its_first_line() -> None:
    """Time that passed before anything was judged is no lag; from then on it is."""
    pacer = Pacer(1.0)
    lane, _, _ = make(0, pacer=pacer)
    summary = RunSummary("run", Ledger(), {})
    track = Track(lane, UNUSED, UNUSED, UNUSED, Path("model"), ids="", trace=None, summary=summary)
    pacer.passed_ns = 1_700_000_000_000_000_000
    assert track.status().lag_s == 0
    pacer.late_ns = 3_000_000_000
    assert track.status().lag_s == 3
    track.reached_ns = pacer.passed_ns - 2_000_000_000
    assert track.status().lag_s == 5
