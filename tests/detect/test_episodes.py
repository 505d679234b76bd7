"""Findings to episodes, with sightings made by hand; the join window is 500 ms."""

from dataclasses import replace

import pytest

from ecustream.detect.episodes import Episodes, Over, Sighting
from ecustream.events import Event
from ecustream.traffic import STATE_NORMAL, Line, Stream
from tests.detect.scripts import MS, closes, names, ns, opens


def stream(name: str, source: str = "ETH1", pdu_id: int | None = None) -> Stream:
    """A stream whose key is its name."""
    return Stream(0, name, name, source, "10.0.0.1", 1, "10.0.0.2", 2, pdu_id)


def seen(
    ms: float,
    pdu: str = "A",
    *,
    nats: float = 10.0,
    frame: int = 0,
    source: str = "ETH1",
    pdu_id: int | None = None,
    surprisal: float | None = None,
    fields: tuple[str, ...] = ("deltaTime",),
) -> Sighting:
    """A sighting of a PDU's line at `ms`, or of its absence where `frame` is negative."""
    of = stream(pdu, source, pdu_id)
    line = None if frame < 0 else Line(0, frame, ns(ms), of, STATE_NORMAL, None)
    return Sighting(
        stream=of,
        time_ns=ns(ms),
        start_ns=ns(ms),
        line=line,
        evidence="late",
        fields=list(fields),
        rarity_nats=nats,
        threshold_nats=6.0,
        reason=f"{pdu} with {nats:g} nats",
        perplexity=surprisal,
        surprisal_nats=surprisal,
    )


def test_findings_within_the_window_join() -> None:
    """A finding that opens within the window of the newest evidence is part of the episode."""
    episodes = Episodes(500 * MS)
    (first,) = episodes.opened(seen(0))
    assert first.phase == "open"
    assert opens(episodes.opened(seen(400, "B"))) == []
    assert opens(episodes.opened(seen(800, "C"))) == []
    assert [event.id for event in opens(episodes.opened(seen(1301, "D")))] == ["2"]


def test_episode_closes_when_its_findings_closed_and_the_window_is_over() -> None:
    """An episode outlasts its last finding by the window, and one that is still active stays open."""
    episodes = Episodes(500 * MS)
    episodes.opened(seen(0))
    episodes.opened(seen(100, "B"))
    episodes.closed("A", ns(150))
    assert [event.phase for event in episodes.advance(ns(5000))] == ["update"]
    episodes.closed("B", ns(5000))
    (close,) = episodes.advance(ns(5001))
    assert (close.phase, names(close), close.end_ns) == ("close", {"A", "B"}, ns(100))
    assert close.decided_ns == ns(5000)
    assert episodes.finish(ns(6000)) == []


def test_finding_that_expired_starts_another_episode() -> None:
    """A PDU that goes quiet in the middle of a finding does not keep its episode open for ever."""
    episodes = Episodes(500 * MS)
    episodes.opened(seen(0), expires_ns=ns(1000))
    assert [event.phase for event in episodes.advance(ns(1000))] == ["close"]
    assert [event.phase for event in episodes.continued(seen(2000))] == ["open"]


def test_anomaly_joins_a_silence_and_a_silence_opens_its_own() -> None:
    """What follows a silence is part of it; a silence during an anomaly is told at once."""
    episodes = Episodes(500 * MS)
    episodes.opened(seen(0), "silence")
    assert opens(episodes.opened(seen(10, "B"))) == []
    other = Episodes(500 * MS)
    other.opened(seen(0))
    assert [event.kind for event in other.opened(seen(10, "B"), "silence")] == ["silence"]


def test_updates_are_a_quarter_of_a_second_apart() -> None:
    """Stronger evidence is told at once only where the last message is a quarter of a second old."""
    episodes = Episodes(500 * MS)
    episodes.opened(seen(0, nats=10))
    assert episodes.continued(seen(100, nats=11)) == []
    (update,) = episodes.continued(seen(250, nats=5))
    assert (update.phase, update.score.evidence, update.lines) == ("update", 11.0, 3)
    assert episodes.continued(seen(600, nats=5)) == []


def test_strongest_sighting_gives_the_reason() -> None:
    """Reason, evidence and threshold are those of the rarest sighting, not of the last."""
    episodes = Episodes(500 * MS)
    events = episodes.opened(seen(0, nats=8)) + episodes.continued(seen(10, nats=20))
    events += episodes.continued(seen(20, nats=9)) + episodes.finish(ns(30))
    assert closes(events)[0].score.evidence == 20.0
    assert closes(events)[0].reason.startswith("A with 20 nats")


def test_silence_is_told_by_what_did_not_come() -> None:
    """What came too early during a silence gives it no reason, however rare it is."""
    episodes = Episodes(500 * MS)
    early = replace(seen(10, "B", nats=90), evidence="early")
    events = episodes.opened(seen(0, nats=8), "silence") + episodes.opened(early) + episodes.finish(ns(30))
    assert closes(events)[0].reason.startswith("A with 8 nats")
    assert (closes(events)[0].evidence, closes(events)[0].score.evidence) == ("late", 8.0)
    assert [pdu.name for pdu in closes(events)[0].pdus] == ["A", "B"]


def silence(join_ms: int = 500) -> Episodes:
    """A and B are silent since 0 and 20 ms."""
    episodes = Episodes(join_ms * MS)
    episodes.opened(seen(0, frame=-1), "silence")
    episodes.opened(seen(20, "B", frame=-1, nats=9), "silence")
    return episodes


def test_silence_that_is_over_says_so() -> None:
    """In the words of its end, though updates until then tell of its strongest sighting."""
    episodes = silence()
    for pdu in "A", "B":
        episodes.over(pdu, Over(f"{pdu} is back", False, 3.0))
        for update in episodes.continued(seen(300, pdu, nats=80)):
            assert update.reason == "A with 80 nats"
        episodes.closed(pdu, ns(310))
    (close,) = episodes.advance(ns(5000))
    assert (close.reason, close.end_ns) == ("A is back", ns(300))


@pytest.mark.parametrize(
    ("whole_bus", "cycles", "told"), [(False, 3.5, "B"), (False, 2.5, "A"), (True, 0.1, "B")]
)
def test_silence_that_weighs_most_is_told(whole_bus: bool, cycles: float, told: str) -> None:
    """That of a whole bus, else the one of most cycles."""
    for order in "AB", "BA":
        episodes = silence()
        overs = {"A": Over("A", False, 3.0), "B": Over("B", whole_bus, cycles)}
        for pdu in order:
            episodes.over(pdu, overs[pdu])
            episodes.closed(pdu, ns(400))
        assert [event.reason for event in closes(episodes.advance(ns(5000)))] == [told]


def test_silence_that_goes_on_is_told_at_the_end_and_not_one_that_is_over() -> None:
    """One PDU is back, the other one is not: that is what was still so."""
    episodes = silence()
    episodes.over("A", Over("A is back", False, 3.0))
    episodes.continued(seen(300, "A", nats=80))
    assert [event.reason for event in episodes.finish(ns(400))] == ["B with 9 nats; still so at the end"]


def test_silence_of_which_nothing_is_expected_any_more_is_not_still_so() -> None:
    """One PDU is missed no longer though it did not come, as before a start-up; the other one still is."""
    episodes = silence()
    episodes.closed("A", ns(300))
    assert [event.reason for event in episodes.finish(ns(400))] == ["B with 9 nats; still so at the end"]


def test_silence_that_was_just_over_is_not_still_so() -> None:
    """Its PDUs are back, though it is not calm yet."""
    episodes = Episodes(500 * MS)
    episodes.opened(seen(0, frame=-1), "silence")
    episodes.over("A", Over("A is back", False, 3.0))
    episodes.continued(seen(300, "A", nats=80))
    assert [event.reason for event in episodes.finish(ns(400))] == ["A is back"]


def test_silence_begins_again() -> None:
    """A PDU that is back and vanishes again is still silent at the end."""
    episodes = Episodes(500 * MS)
    episodes.opened(seen(0, frame=-1), "silence")
    episodes.over("A", Over("A is back", False, 3.0))
    episodes.continued(seen(300, "A", nats=80))
    episodes.continued(seen(400, "A", nats=9, frame=-1))
    assert [event.reason for event in episodes.finish(ns(500))] == ["A with 9 nats; still so at the end"]


def test_anomaly_keeps_its_words_when_it_closes() -> None:
    """Only a silence is told by its end."""
    episodes = Episodes(500 * MS)
    episodes.opened(seen(0))
    episodes.continued(seen(10, nats=9, frame=-1))
    episodes.over("A", Over("A is back", False, 3.0))
    episodes.closed("A", ns(20))
    assert [event.reason for event in closes(episodes.advance(ns(5000)))] == ["A with 10 nats"]


def test_open_episodes_are_told_anew() -> None:
    """In the order in which they began, as they are by now; what was held back is told with that."""
    episodes = Episodes(500 * MS)
    (first,) = episodes.opened(seen(0, frame=3))
    (second,) = episodes.opened(seen(5, source="ETH2", pdu="C"))
    assert episodes.opened(seen(10, "B", nats=50, frame=7)) == []
    told = episodes.open_events(ns(100))
    assert [(e.id, e.phase, e.decided_ns) for e in told] == [
        (first.id, "open", ns(100)),
        (second.id, "open", ns(100)),
    ]
    assert (names(told[0]), told[0].frames, told[0].reason) == ({"A", "B"}, (3, 7), "B with 50 nats")
    assert episodes.advance(ns(2000)) == []


def test_worst_scores_of_the_lines_are_kept() -> None:
    """Perplexity and surprisal are the highest of any line, and null where no line was scored."""
    episodes = Episodes(500 * MS)
    assert episodes.opened(seen(0))[0].score.surprisal is None
    episodes.continued(seen(10, surprisal=7.0))
    episodes.continued(seen(20, surprisal=3.0))
    assert episodes.finish(ns(30))[0].score.surprisal == 7.0


def test_fields_are_named_once_each() -> None:
    """A field that stood out in many lines of a PDU is listed once."""
    episodes = Episodes(500 * MS)
    episodes.opened(seen(0))
    episodes.continued(seen(10, fields=("pduName",)))
    episodes.continued(seen(20))
    assert episodes.finish(ns(30))[0].pdus[0].fields == ["deltaTime", "pduName"]


@pytest.mark.parametrize(
    ("sightings", "expected"),
    [
        ([seen(0, frame=-1)], None),
        ([seen(0, frame=12)], "frame.number >= 12 && frame.number <= 12"),
        (
            [seen(0, frame=12, pdu_id=0x3E8), seen(1, frame=19, pdu_id=0x3E8)],
            "pdu_transport.id == 0x000003e8 && frame.number >= 12 && frame.number <= 19",
        ),
        (
            [seen(0, "A", frame=12, pdu_id=0x10), seen(1, "B", frame=14, pdu_id=0x2)],
            "(pdu_transport.id == 0x00000002 || pdu_transport.id == 0x00000010) && "
            "frame.number >= 12 && frame.number <= 14",
        ),
    ],
)
def test_wireshark_filter_finds_the_lines(sightings: list[Sighting], expected: str | None) -> None:
    """The display filter names the PDUs and the frames from the first to the last."""
    episodes = Episodes(500 * MS)
    for sighting in sightings:
        episodes.opened(sighting)
    assert episodes.finish(ns(10))[0].wireshark == expected


def test_capture_gap_is_over_when_it_is_told() -> None:
    """A gap opens and closes in one breath and does not touch what else is open."""
    episodes = Episodes(500 * MS)
    episodes.opened(seen(0))
    opened, closed = episodes.capture_gap(ns(10), ns(90), "ETH1", "12 lines were overwritten")
    assert (opened.phase, closed.phase, opened.id, closed.id) == ("open", "close", "2", "2")
    assert (closed.start_ns, closed.end_ns, closed.evidence) == (ns(10), ns(90), "gap")
    assert episodes.is_open("A")


def test_events_are_snapshots() -> None:
    """An event that was told does not change with what comes later."""
    episodes = Episodes(500 * MS)
    (first,) = episodes.opened(seen(0, frame=1))
    before = Event(**{name: getattr(first, name) for name in Event.__struct_fields__})
    episodes.continued(seen(10, nats=50, frame=2, fields=("pduName",)))
    assert first == before
