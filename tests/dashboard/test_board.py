"""The state of a daemon, fed with items."""

from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecustream.client.items import Alive, Denied, Item, Lost, NewRun, Stale, Synced
from ecustream.dashboard import board as board_module
from ecustream.dashboard import episodes as episodes_module
from ecustream.dashboard.board import Board
from ecustream.events import Event, Phase
from ecustream.publish.messages import ScoreBatch
from ecustream.publish.pdus import PduTable
from tests.dashboard.examples import START_NS, S, make_event, make_scores, make_status, make_table

NOW = 2 * START_NS
MessageT = TypeVar("MessageT", Event, ScoreBatch)


def make_board(*items: Item) -> Board:
    """A board that has taken items at `NOW`."""
    board = Board("tcp://h:1", "tcp://h:2", NOW)
    for item in items:
        board.take(item, NOW)
    return board


def synced(*open_episodes: Any, seq: int = 0, run: str = "run0") -> Synced:
    """In step with a run."""
    return Synced(run, seq, list(open_episodes))


def of_trace(message: MessageT, trace: str) -> MessageT:
    """The message as of one of several traces."""
    return msgspec.structs.replace(message, trace=trace)


def ended(board: Board) -> dict[str, str | None]:
    """How each episode ended; None where it is open."""
    return {row["id"]: row["end"] for row in board.snapshot(NOW)["episodes"]}


class TestHeadline:
    @pytest.mark.parametrize(
        ("items", "after_s", "state"),
        [
            ([], 0, "disconnected"),
            ([Stale(NOW)], 0, "disconnected"),
            ([synced(), make_status()], 0, "ok"),
            ([synced(make_event(1), seq=1), make_status(1)], 0, "open"),
            ([synced(), make_event(1), make_event(2, phase="close")], 0, "ok"),
            ([synced(), make_status(state="degraded", reason="full")], 0, "degraded"),
            ([synced(), make_status(state="degraded"), make_event(1)], 0, "open"),
            ([synced(), make_status(state="done")], 0, "ended"),
            ([synced(), make_status(state="done"), Stale(NOW)], 60, "ended"),
            ([synced(), make_event(1), Stale(NOW)], 4, "stale"),
            ([synced(), make_event(1), Stale(NOW)], 10, "disconnected"),
            ([synced(), Stale(NOW), Alive()], 0, "ok"),
            ([make_status()], 4.9, "ok"),
            ([make_status()], 5, "stale"),
        ],
    )
    def test_state(self, items: list[Item], after_s: float, state: str) -> None:
        """What makes all else uncertain comes first; an ended run is no failure."""
        assert make_board(*items).headline(NOW + round(after_s * S)).state == state

    def test_it_says_why(self) -> None:
        """The address that is silent, or does not answer, and the reason of the daemon are named."""
        assert "tcp://h:1" in make_board().headline(NOW).why
        denied = make_board(Denied("tcp://h:1", "is your key on its list?"), Stale(NOW))
        assert denied.headline(NOW + 60 * S) == (
            "disconnected",
            "refused by tcp://h:1: is your key on its list?",
        )
        assert "tcp://h:2" in make_board(make_status()).headline(NOW + 5 * S).why
        assert (
            make_board(synced(), make_status(state="degraded", reason="disk full")).headline(NOW).why
            == "disk full"
        )


class TestEpisodes:
    def test_open_update_close(self) -> None:
        """One row an episode, with the latest that was said of it."""
        board = make_board(
            synced(), make_event(1), make_event(2, phase="update"), make_event(3, phase="close")
        )
        (row,) = board.snapshot(NOW)["episodes"]
        assert (row["end"], row["seq"], row["end_ms"] - row["start_ms"]) == ("closed", 3, 2000)

    def test_a_new_run_cuts_open_episodes(self) -> None:
        """They are neither open nor closed, and those of the new run are apart from them."""
        board = make_board(synced(), make_event(1), NewRun("run0", "run1"), make_event(1, run="run1"))
        assert ended(board) == {"run0-0": "restarted", "run1-0": None}

    def test_what_is_not_open_any_more_ended_unseen(self) -> None:
        """After a loss the snapshot decides; an episode that it brings is open."""
        board = make_board(synced(), make_event(1), Lost("run0", 2, 5), synced(make_event(5, 1), seq=5))
        assert ended(board) == {"run0-0": "unseen", "run0-1": None}
        assert board.snapshot(NOW)["lost"] == 4

    def test_the_oldest_ended_ones_go(self) -> None:
        """No more than 500 ended ones are kept, and pages are told which are gone."""
        board = make_board(synced())
        for i in range(600):
            board.take(make_event(2 * i + 1, i), NOW)
            board.take(make_event(2 * i + 2, i, "close"), NOW)
        assert list(ended(board)) == [f"run0-{i}" for i in range(100, 600)]
        assert board.delta(NOW)["gone"] == [f"run0-{i}" for i in range(100)]

    def test_details(self) -> None:
        """An episode in full: filter, every message, PDUs with what was learned, the lines around it."""
        board = make_board(synced(), make_status())
        board.take_pdus(make_table())
        times_ns = [START_NS + i * S // 2 for i in range(-4, 12)]
        board.take(make_scores(times_ns), NOW)
        board.take(make_scores([START_NS + 6 * S], pdu="OTHER"), NOW)
        board.take(make_event(1, pdus=2), NOW)
        board.take(make_event(2, phase="close", pdus=2), NOW)
        found = board.episode("run0-0")
        assert found is not None
        assert found["wireshark"] == "pdu_transport.id == 0x03e80064 && frame.number >= 0"
        assert [said["phase"] for said in found["messages"]] == ["open", "close"]
        rows = [pdu["rows"] for pdu in found["pdus"]]
        assert [[row["observed_ns"] for row in of_pdu] for of_pdu in rows] == [[10_100_000], [20_000_000]]
        assert [line[0] - START_NS / 1e6 for line in found["scored"]] == [500.0 * i for i in range(-2, 7)]
        assert found["score"]["threshold"] == 7.9

    def test_details_of_a_name_that_two_pdus_have(self) -> None:
        """An event tells names alone, so every PDU of that name on its bus is shown."""
        board = make_board(synced(), make_event(1, pdus=2))
        first = make_table().pdus[0]
        same = [msgspec.structs.replace(first, flow=flow) for flow in ("to a", "to b")]
        elsewhere = msgspec.structs.replace(first, source="ETH2", flow="to c")
        board.take_pdus(PduTable(run="run0", last_ns=START_NS, pdus=[*same, elsewhere]))
        found = board.episode("run0-0")
        assert found is not None
        assert [[row["flow"] for row in pdu["rows"]] for pdu in found["pdus"]] == [["to a", "to b"], []]

    def test_lines_that_come_after_the_event(self) -> None:
        """Scores are sent later than events, so they are looked for when asked, and none comes twice."""
        board = make_board(synced(), make_event(1), make_scores([START_NS]), make_event(2, phase="update"))
        board.take(make_scores([START_NS + 1]), NOW)
        for _ in range(2):
            found = board.episode("run0-0")
            assert found is not None
            assert len(found["scored"]) == 2

    def test_bounds(self) -> None:
        """Messages, lines, names and words of one episode are bounded; its first message stays."""
        board = make_board(synced(), make_event(1, pdus=30))
        for seq in range(2, 200):
            board.take(make_scores([START_NS + seq * 1_000_000 + i for i in range(10)]), NOW)
            board.take(make_event(seq, phase="update", pdus=30), NOW)
        found = board.episode("run0-0")
        assert found is not None
        assert len(found["messages"]) == episodes_module.MOST_MESSAGES
        assert found["messages"][0]["phase"] == "open"
        assert len(found["scored"]) == episodes_module.MOST_LINES
        (row,) = board.snapshot(NOW)["episodes"]
        assert (len(row["pdus"]), row["more_pdus"]) == (8, 22)

    def test_an_unknown_one(self) -> None:
        """There is no answer on it."""
        assert make_board(synced()).episode("nobody") is None


class TestRuns:
    def test_the_same_run_again(self) -> None:
        """Where the same trace is scored again, its episodes come again and those of before go."""
        board = make_board(synced(), make_event(1), make_event(2, 1), NewRun("run0", "run0"), make_event(1))
        assert ended(board) == {"run0-0": None}
        assert "run0-1" in board.delta(NOW)["gone"]
        found = board.episode("run0-0")
        assert found is not None
        assert len(found["messages"]) == 1

    def test_scores_of_another_run_are_passed_over(self) -> None:
        """They would be drawn over those of the run that is shown."""
        board = make_board(synced(), make_scores([START_NS], run="run9"))
        assert board.snapshot(NOW)["scores"] == {}

    def test_a_new_run_empties_plot_and_tables(self) -> None:
        """What was of the old run is not taken for the new one."""
        board = make_board(synced(), make_status(), make_scores([START_NS]))
        board.take_pdus(make_table())
        board.take(NewRun("run0", "run1"), NOW)
        found = board.snapshot(NOW)
        assert (found["status"], found["pdus"], found["capture_ms"]) == (None, None, 0)
        assert found["scores"] == {}
        assert board.delta(NOW)["scores"] == {"ETH1": None}

    def test_the_plot_of_a_new_run_begins_anew_once(self) -> None:
        """Pages drop the old run's peaks of a source, and then keep those of the new one."""
        board = make_board(synced(), make_scores([START_NS]))
        board.delta(NOW)
        board.take(NewRun("run0", "run1"), NOW)
        told = []
        for i in (1, 2):
            board.take(make_scores([START_NS + i * S], run="run1"), NOW)
            told.append(board.delta(NOW)["scores"]["ETH1"]["anew"])
        assert told == [True, False]

    def test_a_table_of_another_run(self) -> None:
        """It is passed over."""
        board = make_board(synced())
        board.take_pdus(make_table("run9"))
        assert board.snapshot(NOW)["pdus"] is None

    def test_sources_are_bounded(self) -> None:
        """Whatever names come, memory does not grow with them."""
        board = make_board(synced(), *(make_scores([START_NS], source=f"S{i}") for i in range(100)))
        assert len(board.snapshot(NOW)["scores"]) == board_module.MOST_SOURCES
        # Those of the next run have the room to themselves.
        board.take(NewRun("run0", "run1"), NOW)
        board.take(make_scores([START_NS], run="run1", source="late"), NOW)
        assert list(board.snapshot(NOW)["scores"]) == ["late"]


class TestTraces:
    def test_each_has_a_plot_of_its_own(self) -> None:
        """Traces of one bus whose clocks are hours apart clear each other's scores not at all."""
        board = make_board(synced())
        for i in range(3):
            board.take(of_trace(make_scores([START_NS + i * S]), "a.pcap"), NOW)
            board.take(of_trace(make_scores([START_NS + (3600 + i) * S]), "b.pcap"), NOW)
        scores = board.snapshot(NOW)["scores"]
        assert list(scores) == ["ETH1 in a.pcap", "ETH1 in b.pcap"]
        assert [len(of_trace["peaks"][0]) for of_trace in scores.values()] == [3, 3]
        assert not any(of_trace["anew"] for of_trace in board.delta(NOW)["scores"].values())

    def test_an_episode_has_the_lines_and_pdus_of_its_trace(self) -> None:
        """And it says which trace that is; in a run over one it says none."""
        events = [of_trace(make_event(i + 1, i), name) for i, name in enumerate(("a.pcap", "b/a.pcap"))]
        board = make_board(synced(), *events, make_event(3, 3))
        for offset, name in ((1, "a.pcap"), (2, "b/a.pcap")):
            board.take(of_trace(make_scores([START_NS + offset, START_NS + 10 * S + offset]), name), NOW)
        row = make_table().pdus[0]
        flows = ["in a.pcap", "to x in a.pcap", "in b/a.pcap"]
        rows = [msgspec.structs.replace(row, flow=flow) for flow in flows]
        board.take_pdus(PduTable(run="run0", last_ns=START_NS, pdus=rows))
        assert [found["trace"] for found in board.snapshot(NOW)["episodes"]] == ["a.pcap", "b/a.pcap", None]
        for id_, its_flows in (("run0-0", flows[:2]), ("run0-1", flows[2:]), ("run0-3", flows)):
            found = board.episode(id_)
            assert found is not None
            assert len(found["scored"]) == (0 if found["trace"] is None else 1)
            assert [row["flow"] for row in found["pdus"][0]["rows"]] == its_flows


class Copy:
    """What a page has, from a snapshot and deltas."""

    def __init__(self) -> None:
        self.episodes: dict[str, Any] = {}
        self.rest: dict[str, Any] = {}
        self.peaks: dict[str, list[dict[float, Any]]] = {}

    def take(self, frame: dict[str, Any]) -> None:
        """Takes a snapshot or a delta."""
        if frame.get("full"):
            self.episodes, self.peaks = {}, {}
        self.episodes |= {row["id"]: row for row in frame.get("episodes", [])}
        for gone in frame.get("gone", []):
            self.episodes.pop(gone, None)
        self.rest |= {
            key: value for key, value in frame.items() if key not in ("episodes", "gone", "scores", "full")
        }
        for source, scores in frame.get("scores", {}).items():
            if scores is None:
                self.peaks.pop(source, None)
                continue
            if scores["anew"] or source not in self.peaks:
                self.peaks[source] = [{}, {}, {}]
            for held, new in zip(self.peaks[source], scores["peaks"], strict=True):
                held |= {peak[0]: peak for peak in new}


PHASES: list[Phase] = ["open", "update", "close"]
SAID = st.one_of(
    st.builds(make_event, st.integers(1, 9), st.integers(0, 5), st.sampled_from(PHASES)),
    st.builds(make_status, st.integers(0, 9)),
    st.builds(
        lambda at_s, p, trace, run: of_trace(make_scores([START_NS + at_s * S], p, run=run), trace),
        st.integers(0, 100),
        st.floats(1, 50, allow_nan=False),
        st.sampled_from(["a.pcap", "b.pcap"]),
        st.sampled_from(["run0", "run1"]),
    ),
    st.builds(lambda i: synced(make_event(i, i)), st.integers(0, 5)),
    st.sampled_from(
        [
            NewRun("run0", "run0"),
            NewRun("run0", "run1"),
            NewRun("run1", "run0"),
            Lost("run0", 1, 3),
            Stale(NOW),
            Alive(),
        ]
    ),
)


@given(st.lists(st.one_of(SAID, st.just("tick"), st.just("table"), st.just("join")), max_size=40))
def test_a_snapshot_and_the_deltas_after_it_are_the_next_snapshot(steps: list[Any]) -> None:
    """Whenever a page came, after the next delta it has what a page has that comes then."""
    board = make_board(synced())
    pages = [Copy()]
    pages[0].take(board.snapshot(NOW))
    for i, step in enumerate(steps):
        if step == "tick":
            delta = board.delta(NOW)
            for page in pages:
                page.take(delta)
        elif step == "table":
            board.take_pdus(make_table(lines=i))
        elif step == "join":
            pages.append(Copy())
            pages[-1].take(board.snapshot(NOW))
        else:
            board.take(step, NOW)
    delta = board.delta(NOW)
    fresh = Copy()
    fresh.take(board.snapshot(NOW))
    for page in pages:
        page.take(delta)
        assert page.episodes == fresh.episodes
        assert page.rest == fresh.rest
        assert page.peaks == fresh.peaks
