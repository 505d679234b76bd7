"""A study: what it tries, prunes and refuses, and what it keeps over a kill."""

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from ecustream.errors import ConfigError, InputError, OutputError
from training.study import Attempt, Evaluate, Space, Study, run_study

SPACE: Space = {
    "x": FloatDistribution(-3, 3),
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "layers": IntDistribution(1, 6),
    "body": CategoricalDistribution(["small", "large"]),
}


def bowl(attempt: Attempt) -> float:
    """Least at x = 1 and rate = 0.01; the other settings do not matter."""
    return float((attempt.params["x"] - 1) ** 2 + math.log10(attempt.params["rate"] / 1e-2) ** 2)


def _run(folder: Path, evaluate: Evaluate = bowl, trials: int = 3, **changes: Any) -> Study:
    arguments: dict[str, Any] = {
        "name": "test",
        "metric": "nats a line",
        "direction": "minimize",
        "space": SPACE,
        "identity": {"traffic": "one drive"},
    }
    return run_study(folder, evaluate=evaluate, trials=trials, **arguments | changes)


def _settings(study: Study) -> list[dict[str, Any]]:
    return [tried.params for tried in study.trials]


_KILLED = """
import os, sys
from pathlib import Path
from tests.training.test_study import _run, bowl

def evaluate(attempt):
    if attempt.number == 12:
        os._exit(9)
    return bowl(attempt)

_run(Path(sys.argv[1]), evaluate, trials=13)
"""


def test_a_killed_search_goes_on_with_what_it_would_have_tried(tmp_path: Path) -> None:
    """Nothing but the running trial is lost; the sampler goes on as before, past its random start too."""
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path / "a")], check=False)
    assert killed.returncode == 9
    evaluated: list[int] = []

    def evaluate(attempt: Attempt) -> float:
        evaluated.append(attempt.number)
        return bowl(attempt)

    resumed = _run(tmp_path / "a", evaluate, trials=13)
    whole = _run(tmp_path / "b", trials=13)

    assert evaluated == [12, 13]
    assert [tried.number for tried in resumed.trials] == list(range(1, 14))
    assert _settings(resumed) == _settings(whole)
    assert len({str(settings) for settings in _settings(resumed)}) == 13


def test_another_seed_tries_other_settings(tmp_path: Path) -> None:
    """The first trial already differs; the same seed gives the same one."""
    first, again, other = (
        _settings(_run(tmp_path / name, trials=1, seed=seed)) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )

    assert first == again
    assert first != other


def test_more_trials_are_added_and_enough_are_left_alone(tmp_path: Path) -> None:
    """The number of trials is that of all calls together."""
    few = _run(tmp_path, trials=2)
    more = _run(tmp_path, trials=4)

    def never(attempt: Attempt) -> float:
        raise AssertionError("there are enough trials")

    assert _run(tmp_path, never, trials=4) == more
    assert more.trials[:2] == few.trials
    assert len(more.trials) == 4


@pytest.mark.parametrize(("direction", "choose"), [("minimize", min), ("maximize", max)])
def test_the_best_trial_is_the_lowest_or_the_highest(
    tmp_path: Path, direction: str, choose: Callable[..., float]
) -> None:
    """Trials that did not come to their end are never the best."""

    def evaluate(attempt: Attempt) -> float:
        return math.nan if attempt.number == 2 else bowl(attempt)

    study = _run(tmp_path, evaluate, trials=5, direction=direction)

    values = [tried.value for tried in study.trials]
    assert values[1] is None
    assert study.best is not None
    assert study.best.value == choose(value for value in values if value is not None)


def test_the_sampler_learns_from_what_was_tried(tmp_path: Path) -> None:
    """After its random start it comes closer to the bowl's ground than by chance; the same with every run."""
    study = _run(tmp_path, trials=20)

    values = [tried.value or 0.0 for tried in study.trials]
    assert sum(values[15:]) / 5 < 0.5 * sum(values[:10]) / 10
    assert sum(study.importance.values()) == pytest.approx(1)
    assert study.importance["x"] + study.importance["rate"] > study.importance["layers"] + 0.3


def _diverges(attempt: Attempt) -> float:
    return math.inf


def _refuses(attempt: Attempt) -> float:
    raise InputError("too little traffic")


def _does_not_fit(attempt: Attempt) -> float:
    raise ConfigError("body.hidden is 3")


def _reports_no_number(attempt: Attempt) -> float:
    assert attempt.report(0.5, math.nan)
    return 1.0


@pytest.mark.parametrize(
    ("evaluate", "reason"),
    [
        (_diverges, "diverged"),
        (_refuses, "too little traffic"),
        (_does_not_fit, "body.hidden is 3"),
        (_reports_no_number, "diverged"),
    ],
)
def test_a_trial_without_a_number_is_pruned_with_its_reason(
    tmp_path: Path, evaluate: Evaluate, reason: str
) -> None:
    """It counts as a finished trial, and the search goes on."""

    def third_fails(attempt: Attempt) -> float:
        return evaluate(attempt) if attempt.number == 3 else bowl(attempt)

    study = _run(tmp_path, third_fails, trials=4)

    assert [tried.value is None for tried in study.trials] == [False, False, True, False]
    assert [tried.reason for tried in study.trials] == ["", "", reason, ""]


def test_a_search_of_which_nothing_came_to_its_end_says_why(tmp_path: Path) -> None:
    """The last trial's reason stands for all."""
    with pytest.raises(InputError, match=r"no trial came to its end; the last one: too little traffic"):
        _run(tmp_path, _refuses)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OutputError, RuntimeError])
def test_what_no_setting_is_to_blame_for_ends_the_search_and_loses_one_trial(
    tmp_path: Path, error: type[BaseException]
) -> None:
    """The trials before it stay, and the same settings are tried again in the next call."""
    seen: list[dict[str, Any]] = []

    def fails(attempt: Attempt) -> float:
        seen.append(attempt.params)
        if attempt.number == 2:
            raise error("now")
        return bowl(attempt)

    with pytest.raises(error):
        _run(tmp_path, fails)

    assert _settings(_run(tmp_path))[:2] == seen


def test_a_trial_worse_than_the_median_is_pruned_when_it_has_had_a_chance(tmp_path: Path) -> None:
    """Not before three tenths of its cost, nor among the first four trials; a better one is left alone."""
    asked: dict[int, list[bool]] = {}

    def evaluate(attempt: Attempt) -> float:
        value = {5: 9.0, 6: 0.0}.get(attempt.number, float(attempt.number))
        asked[attempt.number] = [attempt.report(share, value) for share in (0.1, 0.2, 0.3, 0.4)]
        return value

    study = _run(tmp_path, evaluate, trials=6)

    assert asked[4] == asked[6] == [False] * 4
    assert asked[5] == [False, False, True, True]
    assert study.trials[4].reason == "worse than the median at 30 % of its cost"
    assert study.trials[4].so_far == {1: 9.0, 2: 9.0, 3: 9.0}


def test_trials_are_compared_at_tenths_of_their_cost(tmp_path: Path) -> None:
    """The first value in each tenth counts, however often a trial looks; a tenth may have none."""

    def evaluate(attempt: Attempt) -> float:
        for share, value in ((0.05, 5.0), (0.11, 4.0), (0.19, 3.0), (0.2, 2.5), (0.55, 2.0), (1.0, 1.0)):
            attempt.report(share, value)
        attempt.facts["steps"] = 7
        return 1.0

    tried = _run(tmp_path, evaluate, trials=1).trials[0]

    assert tried.so_far == {1: 4.0, 2: 2.5, 5: 2.0, 10: 1.0}
    assert tried.facts == {"steps": 7}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seed": 1}, "another seed: 0 there, 1 here"),
        ({"identity": {"traffic": "two"}}, "another traffic: one drive there, two here"),
        ({"metric": "seconds"}, "another metric: nats a line there, seconds here"),
        ({"identity": {}}, "another traffic: one drive there, none here"),
        (
            {"space": {**SPACE, "x": FloatDistribution(-3, 4)}},
            "another range of x: low -3.0, high 3.0 there, low -3.0, high 4.0 here",
        ),
        ({"space": {"x": FloatDistribution(-3, 3)}}, "another range of rate: low 0.0001, high 0.1, log True"),
    ],
)
def test_another_search_is_refused(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    """The sentence names what differs; the study stays as it was."""
    before = _run(tmp_path, trials=1)

    with pytest.raises(ConfigError) as raised:
        _run(tmp_path, **change)

    assert sentence in str(raised.value)
    assert str(raised.value).startswith(f"{tmp_path}: holds a search with ")
    assert _run(tmp_path, trials=1) == before


def test_a_file_that_is_no_study_is_refused(tmp_path: Path) -> None:
    """It is left as it is."""
    (tmp_path / "study.db").write_bytes(b"not a database at all" * 100)

    with pytest.raises(InputError, match=r"study\.db: is not a study"):
        _run(tmp_path)

    assert (tmp_path / "study.db").read_bytes() == b"not a database at all" * 100


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    """A file lies where the folder should be."""
    (tmp_path / "file").touch()

    with pytest.raises(OutputError, match="file"):
        _run(tmp_path / "file")


def test_two_searches_in_one_folder_are_refused(tmp_path: Path) -> None:
    """The second would take the first one's trial for a lost one."""

    def second(attempt: Attempt) -> float:
        with pytest.raises(OutputError, match="another process searches in it"):
            _run(tmp_path)
        return 1.0

    assert len(_run(tmp_path, second, trials=1).trials) == 1


def test_no_trial_begins_after_its_time(tmp_path: Path) -> None:
    """Without any there is no best one, and the next call has the folder to itself."""
    assert _run(tmp_path, seconds=0).trials == []
    assert _run(tmp_path, seconds=0).best is None
    assert len(_run(tmp_path).trials) == 3


def test_no_trials_at_all_are_refused(tmp_path: Path) -> None:
    """Before anything is written."""
    with pytest.raises(ConfigError, match="at least one trial"):
        _run(tmp_path / "new", trials=0)
    assert not (tmp_path / "new").exists()


def test_a_search_is_quiet_and_at_home_in_any_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Signs that mean something in an address of a database mean nothing; only what is said is said."""
    said: list[str] = []

    _run(tmp_path / "50 %{a}?b#c", trials=2, say=said.append)
    study = _run(tmp_path / "50 %{a}?b#c", trials=2)

    assert (tmp_path / "50 %{a}?b#c" / "study.db").is_file()
    assert capfd.readouterr() == ("", "")
    assert [sentence[:30] for sentence in said] == [
        f"trial {n} of 2: nats a line {study.trials[n - 1].value:.4g}"[:30] for n in (1, 2)
    ]
