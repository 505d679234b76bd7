"""Calibration from clean traffic of a known generator."""

import msgspec
import numpy as np
import pytest

from ecustream.detect.calibration import Calibration, decode_calibration
from ecustream.detect.detector import ALL_EVIDENCE, Detector, Thresholds
from ecustream.scores import LineScore, ScoreBlock
from ecustream.traffic import Line
from tests.training.clean_traffic import CYCLES_MS, MS, START_NS, blocks_of, drive, learned, lines_of, raster
from training.calibrate import calibrate

INTERVALS = frozenset({"interval", "deadline"})
MODEL = frozenset({"delta", "name"})


def calibrated(rng: np.random.Generator, train: list[Line]) -> Calibration:
    """Calibration from one drive, whose last fifth is held out."""
    return calibrate(learned(train), blocks_of(rng, train[int(0.8 * len(train)) :]), 0.2)


def test_learned_bounds_are_the_shortest_and_longest_over_one_and_two_intervals() -> None:
    """Bounds and median cycle are those of the times themselves, no interval goes from piece to piece."""
    rng = np.random.default_rng(1)
    pieces = [raster(rng, 10, 30, start_ns=START_NS + i * 10**12) for i in range(2)]
    (bounds,) = learned(*(lines_of({"A": times}) for times in pieces)).bounds().values()
    one = np.concatenate([np.diff(times) for times in pieces])
    two = np.concatenate([np.array(times[2:]) - np.array(times[:-2]) for times in pieces])
    assert bounds.shortest_ns == (one.min(), two.min())
    assert bounds.longest_ns == (one.max(), two.max())
    assert bounds.cycle_ns == pytest.approx(np.median(one), abs=1)
    assert bounds.lines == sum(map(len, pieces))


def test_longest_pause_of_a_bus_is_within_a_piece() -> None:
    """A bus's longest pause is its own, and not the time between two traces."""
    first = lines_of({"A": [START_NS + ms * MS for ms in (0, 10, 45, 50)]})
    second = lines_of({"A": [START_NS + ms * MS for ms in (90_000, 90_010)]})
    assert learned(first, second).pauses_ns == {"ETH1": 35 * MS}


@pytest.mark.parametrize(
    ("why", "seconds_each"),
    [("sent on events", 60.0), ("there for a while", 3.0), ("too few", 0.15)],
)
def test_what_has_no_cycle_is_not_cyclic(why: str, seconds_each: float) -> None:
    """Event PDUs, PDUs that were there for a short while, and those seen too few times have cycle 0."""
    rng = np.random.default_rng(2)
    if why == "sent on events":
        odd = [START_NS + int(t) for t in np.cumsum(rng.exponential(20 * MS, size=3000))]
    else:
        odd = raster(rng, 10, seconds_each)
    bounds = learned(lines_of({"A": raster(rng, 10, 60), "ODD": odd})).bounds()
    assert bounds["A"].cycle_ns > 0
    assert (bounds["ODD"].cycle_ns, bounds["ODD"].lines) == (0, len(odd))


def test_cyclic_pdu_that_skips_now_and_then_is_still_cyclic() -> None:
    """One message in a hundred lost leaves the cycle, with bounds that include the loss."""
    rng = np.random.default_rng(3)
    times = [t for i, t in enumerate(raster(rng, 10, 60)) if i % 100]
    bounds = learned(lines_of({"A": times})).bounds()["A"]
    assert bounds.cycle_ns == pytest.approx(10 * MS, rel=0.02)
    assert bounds.longest_ns[0] > 19 * MS


def test_overruns_are_those_of_traffic_the_bounds_have_not_seen() -> None:
    """Each quarter is judged by the others: an odd line breaks three intervals by its own size."""
    exact = [START_NS + 10 * MS * i for i in range(2000)]
    late = [*exact[:700], exact[700] + 5 * MS, *exact[701:]]
    overruns, judged = learned(lines_of({"A": late})).overruns()
    assert sorted(overruns) == pytest.approx([0.5] * 3)
    assert judged == 2000 - 4


def test_lines_of_a_known_rate() -> None:
    """Ten PDUs of known cycles send as many lines an hour as their cycles say."""
    rate = learned(drive(np.random.default_rng(4), 30)).lines_per_hour()
    assert rate == pytest.approx(sum(3.6e6 / cycle for cycle in CYCLES_MS), rel=0.01)


def test_calibration_is_a_file_that_reads_back() -> None:
    """What calibrate returns survives the way through `calibration.json`, with every PDU in it."""
    rng = np.random.default_rng(5)
    known = calibrated(rng, drive(rng, 20))
    assert decode_calibration(msgspec.json.encode(known)) == known
    assert {pdu.name for pdu in known.pdus} == {f"P{i}" for i in range(len(CYCLES_MS))}
    assert all(pdu.cycle_ns for pdu in known.pdus)
    assert known.model_peaks.hours == pytest.approx(4 / 3600, rel=0.2)


def test_surprisal_onset_is_exceeded_in_two_percent() -> None:
    """Of exponential surprisal with mean 1 nat the onset is ln 50, and the mean excess 1 nat."""
    rng = np.random.default_rng(6)
    for pdu in calibrated(rng, drive(rng, 120)).pdus:
        assert pdu.delta_onset_nats == pytest.approx(np.log(50), abs=0.6)
        assert pdu.delta_scale_nats == pytest.approx(1.0, abs=0.4)


def test_scores_that_are_warming_up_teach_nothing() -> None:
    """Surprisal before the receptive field is full is no sample of clean traffic."""
    rng = np.random.default_rng(7)
    train = drive(rng, 20)
    blocks = blocks_of(rng, train[int(0.8 * len(train)) :])
    calm = calibrate(learned(train), blocks, 0.2)
    wild = ScoreBlock(
        blocks[0].lines,
        np.full_like(blocks[0].field_nats, 50.0),
        blocks[0].tokens,
        blocks[0].expected,
        np.ones(len(blocks[0].lines), dtype=np.bool_),
    )
    onsets = [pdu.delta_onset_nats for pdu in calibrate(learned(train), [wild, *blocks], 0.2).pdus]
    assert onsets == [pdu.delta_onset_nats for pdu in calm.pdus]


@pytest.fixture(scope="module")
def fresh() -> list[tuple[Calibration, list[LineScore]]]:
    """Three calibrations from two minutes, each with two minutes of traffic that it has not seen."""
    rngs = map(np.random.default_rng, range(3))
    return [
        (
            calibrated(rng, drive(rng, 120)),
            [row for block in blocks_of(rng, drive(rng, 120)) for row in block.rows()],
        )
        for rng in rngs
    ]


@pytest.mark.parametrize(
    ("evidence", "least", "most"),
    [
        pytest.param(ALL_EVIDENCE, 0.1, 1.5, id="all"),
        pytest.param(INTERVALS, 0.1, 1.5, id="intervals"),
        pytest.param(MODEL, 0.0, 0.6, id="model"),
    ],
)
@pytest.mark.parametrize("budget", [600.0, 3600.0])
def test_achieved_false_alarm_rate_is_near_the_budget(
    fresh: list[tuple[Calibration, list[LineScore]]],
    budget: float,
    evidence: frozenset[str],
    least: float,
    most: float,
) -> None:
    """On fresh traffic of the same generator there are about as many episodes as asked for, rather less."""
    episodes = 0
    for known, scores in fresh:
        # A join window of a millisecond, so that false alarms are counted and not merged.
        detector = Detector(known, Thresholds.for_budget(known, budget), 1 * MS, evidence=evidence)
        episodes += sum(event.phase == "open" for event in detector.step(scores))
    hours = len(fresh) * 120 / 3600
    assert least <= episodes / hours / budget <= most


def test_calibration_finds_a_missing_message_at_an_ordinary_budget() -> None:
    """At one false alarm an hour, calibrated on two minutes, a dropped message of any PDU is found."""
    rng = np.random.default_rng(8)
    known = calibrated(rng, drive(rng, 120))
    lines = drive(rng, 10)
    for i in range(len(CYCLES_MS)):
        of_pdu = [line for line in lines if line.stream.name == f"P{i}"]
        dropped = of_pdu[len(of_pdu) // 2]
        detector = Detector(known, Thresholds.for_budget(known, 1.0))
        blocks = blocks_of(rng, [line for line in lines if line is not dropped])
        events = [event for block in blocks for event in detector.step(block.rows())]
        found = [e for e in events if e.phase == "open" and e.pdus[0].name == f"P{i}"]
        assert [e.evidence for e in found] == ["missing"]
        assert 0 < found[0].decided_ns - dropped.time_ns < 1.5 * CYCLES_MS[i] * MS


def test_order_of_the_held_out_traces_does_not_change_the_peaks() -> None:
    """Two drives calibrate alike whichever of them is given first."""
    rng = np.random.default_rng(9)
    drives = [drive(rng, 60, START_NS + i * 10**12) for i in range(4)]
    blocks = [blocks_of(rng, lines[int(0.8 * len(lines)) :]) for lines in drives]

    def peaks(order: tuple[int, ...]) -> int:
        known = calibrate(learned(*(drives[i] for i in order)), [b for i in order for b in blocks[i]], 0.2)
        return len(known.model_peaks.nats)

    assert peaks((1, 0, 3, 2)) == pytest.approx(peaks((0, 1, 2, 3)), rel=0.3)


def test_very_short_held_out_traffic_gives_a_usable_calibration_or_a_sentence() -> None:
    """Held-out traffic that fits in one block does not make a bundle whose threshold divides by zero."""
    rng = np.random.default_rng(10)
    train = drive(rng, 5)
    held_out = train[int(0.8 * len(train)) :]
    known = calibrate(learned(train), blocks_of(rng, held_out, len(held_out)), 0.2)
    Thresholds.for_budget(known, 1.0)
