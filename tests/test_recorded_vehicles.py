"""Recorded traffic of real vehicles, where it lies beside the project; bounds of the interval rule to beat.

The model of these bundles is tiny and hardly trained: what is tested here is that the detector as a whole,
with a model that knows little, does not fall behind the rule. `python -m training evaluate` gives the
figures of a real fit.
"""

from pathlib import Path

import pytest

from ecustream.decode.names import NameTable
from ecustream.events import Event
from tests.running import run_offline, spans
from training.bodies import Body
from training.fit import FitSettings, fit
from training.labels import read_labels
from training.metrics import Found, match
from training.recipe import Recipe
from training.traces import Traces

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

pytestmark = [
    pytest.mark.skipif(not DATA.is_dir(), reason="recorded traffic (../shared/data) is not here"),
    pytest.mark.timeout(600),
]


def fitted(vehicle: str, folder: Path) -> Path:
    names = NameTable.load(DATA / vehicle / "names.csv")
    settings = FitSettings(
        body=Body(hidden=32, layers=2, heads=2, inner=64, window=64),
        recipe=Recipe(max_steps=30, max_seconds=300, evaluate_every=10),
    )
    out = folder / vehicle
    fit(Traces([DATA / vehicle / "train.pcapng.gz"], names), out, settings)
    return out


@pytest.fixture(scope="module")
def volvo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitted("volvo_v40", tmp_path_factory.mktemp("volvo"))


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitted("machine_j1939", tmp_path_factory.mktemp("machine"))


def episodes(trace: Path, bundle: Path, tmp_path: Path) -> list[Event]:
    """The events of a run with defaults, after a look at the ledger."""
    summary, events = run_offline(trace, bundle, tmp_path / "events.jsonl")
    assert summary.ledger.balanced()
    assert not summary.problems
    return events


def found(trace: str, bundle: Path, tmp_path: Path) -> Found:
    labels = read_labels(DATA / f"{trace}.labels.jsonl")
    return match(spans(episodes(DATA / f"{trace}.pcapng.gz", bundle, tmp_path)), labels)


class TestVolvo:
    def test_clean_drive_has_at_most_two_episodes(self, volvo: Path, tmp_path: Path) -> None:
        """The interval rule with margin .1 has three false events in this minute."""
        assert len(spans(episodes(DATA / "volvo_v40/normal.pcapng.gz", volvo, tmp_path))) <= 2

    def test_bursts_of_lost_messages(self, volvo: Path, tmp_path: Path) -> None:
        """At least 62 of 64 bursts are found, each told within 100 ms of its end."""
        result = found("volvo_v40/missing_bursts", volvo, tmp_path)
        assert sum(result.found) >= 62
        assert max(result.latency_after_end_ms) <= 100

    @pytest.mark.parametrize(
        ("trace", "least"), [("replay_145", 95), ("replay_sequence", 210), ("edited", 58)]
    )
    def test_not_behind_the_rule(self, volvo: Path, tmp_path: Path, trace: str, least: int) -> None:
        """As many replays, delays and drops are found as the rule finds, or more."""
        assert sum(found(f"volvo_v40/{trace}", volvo, tmp_path).found) >= least


class TestMachine:
    def test_clean_drive_has_at_most_one_episode(self, machine: Path, tmp_path: Path) -> None:
        """The interval rule has none."""
        assert len(spans(episodes(DATA / "machine_j1939/normal.pcapng.gz", machine, tmp_path))) <= 1

    def test_controllers_that_fall_silent(self, machine: Path, tmp_path: Path) -> None:
        """Eight controllers stop at 15.4 s: told as one silence within a second, not one a PDU."""
        path = DATA / "machine_j1939/natural_stop.pcapng.gz"
        events = episodes(path, machine, tmp_path)
        stop_ns = 1_700_000_385_380_000_000  # the first line after which a 100 ms PDU stays away
        opened = [
            e
            for e in events
            if e.kind == "silence" and e.phase == "open" and 0 <= e.decided_ns - stop_ns <= 1_000_000_000
        ]
        assert len(opened) == 1
        closed = next(e for e in events if e.id == opened[0].id and e.phase == "close")
        assert len(closed.pdus) >= 15
        assert sum(e.kind in ("anomaly", "silence") for e in events if e.phase == "open") <= 10
