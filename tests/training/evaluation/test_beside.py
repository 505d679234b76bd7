"""What judges in a process of its own says what it says in this one."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ecustream.errors import EcustreamError, InputError
from training.baselines.columns import PduNumbers
from training.evaluation import beside as module
from training.evaluation.beside import JudgeBeside
from training.evaluation.cases import Case, read_cases
from training.evaluation.judge import judge
from training.evaluation.judging import Judged, Judging, Plan, TooShortError, Yardstick
from training.evaluation.rivals import chosen_baselines, fit_rivals
from training.evaluation.scan import Opened, open_bundle, scan
from training.evaluation.scored import Packer, Unpacker
from training.labels import Label

S = 1_000_000_000
Make = Callable[[], Yardstick]


@pytest.fixture(scope="module")
def opened(bundle_path: Path) -> Opened:
    """The bundle."""
    return open_bundle(bundle_path)


@pytest.fixture(scope="module")
def yardstick(opened: Opened, clean_trace: Path) -> Make:
    """Fresh numbers of PDUs each time, and a few baselines."""

    def make() -> Yardstick:
        numbers = PduNumbers()
        rivals, _ = fit_rivals(
            chosen_baselines("interval rule,EWMA,isolation forest"),
            [clean_trace], [], opened, numbers, 1.0, (1.0, 100.0), S // 2,
        )  # fmt: skip
        tokens = opened.info.receptive_field_tokens
        plan = Plan(1.0, (1.0, 100.0), S // 2)
        return Yardstick(opened.calibration, tokens, frozenset(), plan, rivals, numbers)

    return make


def as_json(judged: Judged) -> bytes:
    """All that is kept, without the time that it took."""
    judged.result.seconds = judged.result.pass_seconds = 0.0
    return msgspec.json.encode(judged.result)


def test_the_same_in_a_process_of_its_own(
    opened: Opened, yardstick: Make, faulty_trace: Path, unseen_clean: Path
) -> None:
    """Two traces one after the other: results, scores, and lines told."""
    cases = read_cases([faulty_trace, unseen_clean])
    with JudgeBeside(yardstick()) as here, JudgeBeside(yardstick(), own_process=True) as there:
        for case in cases:
            one, other = judge(case, opened, here), judge(case, opened, there)
            assert as_json(one) == as_json(other)
            assert np.array_equal(one.told, other.told)
            assert np.array_equal(one.scores.times_ns, other.scores.times_ns)
            for name, column in one.scores.columns.items():
                assert np.array_equal(column, other.scores.columns[name]), name
    assert one.result.lines > 1000


def test_lines_are_packed_whole(opened: Opened, faulty_trace: Path) -> None:
    """What is unpacked is what was packed; lines of a stream share it."""
    pack, unpack = Packer(), Unpacker()
    streams: dict[int, int] = {}
    for scored in scan(opened, faulty_trace):
        again = unpack(pack(scored))
        assert again.block.lines == scored.block.lines
        assert (again.gap, again.bytes_read) == (scored.gap, scored.bytes_read)
        for name in ("field_nats", "tokens", "expected", "warming"):
            assert np.array_equal(getattr(again.block, name), getattr(scored.block, name), equal_nan=True)
        for line in again.block.lines:
            assert streams.setdefault(line.stream.index, id(line.stream)) == id(line.stream)


def test_what_is_wrong_is_told_here(opened: Opened, yardstick: Make, faulty_trace: Path) -> None:
    """Sentences come over, and the next trace is judged all the same."""
    (case,) = read_cases([faulty_trace])
    elsewhere = [Label(start_ns=5, end_ns=6, kind="x")]
    foreign = Case(case.name, case.path, case.sha256, "", elsewhere, None, [])
    with JudgeBeside(yardstick(), own_process=True) as there:
        with pytest.raises(InputError, match="lies outside the trace"):
            judge(foreign, opened, there)
        there.begin(case)
        with pytest.raises(TooShortError, match="there is no PDU in it"):
            there.finish([])
        assert judge(case, opened, there).result.lines > 1000


def test_killed_process_is_a_sentence(opened: Opened, yardstick: Make, faulty_trace: Path) -> None:
    """As by the kernel when memory runs out."""
    (case,) = read_cases([faulty_trace])
    with JudgeBeside(yardstick(), own_process=True) as there:
        there.begin(case)
        there.settle()
        assert there._pool is not None
        (pid,) = there._pool._processes
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EcustreamError, match="the process that judges ended"):
            judge(case, opened, there)


def test_its_process_needs_no_torch() -> None:
    """It begins in a second, and takes little memory."""
    assert "torch" in sys.modules
    code = f"import sys, {module.__name__}; sys.exit('torch' in sys.modules)"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0


def test_pdus_are_told_by_name_whatever_was_numbered_before(
    opened: Opened, yardstick: Make, faulty_trace: Path
) -> None:
    """Lines told are the same where baselines, or a trace before, have numbered the PDUs already."""
    (case,) = read_cases([faulty_trace])
    known = yardstick()
    counts = []
    for numbers in (PduNumbers(), known.numbers):
        judging = Judging(case, known._replace(rivals=[], numbers=numbers))
        for scored in scan(opened, faulty_trace):
            # Small blocks: most PDUs are not in the first one.
            for start in range(0, len(scored.block.lines), 5):
                part = scored.block.part(slice(start, start + 5))
                judging.add(scored._replace(block=part, gap=scored.gap if not start else ""))
        rows = judging.finish([]).result.rows
        counts.append({row.name: (row.lines, row.regions) for row in rows})
    assert counts[0] == counts[1]
    assert counts[0]["ecustream"][0]["labels"][0] > 0
