"""Messages to feed a board with."""

from ecustream.events import Event, EventPdu, EventScore, Phase
from ecustream.publish.messages import ScoreBatch, State, Status
from ecustream.publish.pdus import PduRow, PduTable

__all__ = ["START_NS", "S", "make_event", "make_scores", "make_status", "make_table"]

S = 1_000_000_000
START_NS = 1_700_000_000 * S


def make_event(
    seq: int,
    episode: int = 0,
    phase: Phase = "open",
    *,
    run: str = "run0",
    source: str = "ETH1",
    pdus: int = 1,
) -> Event:
    """An event of an episode that begins 10 s times its number after the start and takes 2 s."""
    start_ns = START_NS + 10 * S * episode
    return Event(
        run=run,
        seq=seq,
        kind_seq=seq,
        id=f"{run}-{episode}",
        kind="anomaly",
        phase=phase,
        source=source,
        start_ns=start_ns,
        end_ns=start_ns + 2 * S if phase == "close" else None,
        decided_ns=start_ns + 3 * S if phase == "close" else start_ns + S,
        published_ns=None,
        frames=(100 * episode, 100 * episode + 9),
        lines=seq,
        pdus=[EventPdu(name=f"ESC_{i:02d}", lines=2, fields=["deltaTime"]) for i in range(pdus)],
        evidence="late",
        score=EventScore(perplexity=4.1, surprisal=11.2, evidence=9.3, threshold=7.9),
        reason=f"ESC_00 came {seq}.5 ms after its last occurrence, expected 10.0 ms <b>&amp;</b>",
        wireshark=f"pdu_transport.id == 0x03e80064 && frame.number >= {100 * episode}",
    )


def make_status(
    seq: int = 0, *, run: str = "run0", state: State = "running", reason: str | None = None
) -> Status:
    """A status, whose wall clock tells its `seq`."""
    return Status(
        run=run,
        source="ETH1",
        state=state,
        seq=seq,
        lines_per_s=2500.4,
        lag_s=0.004,
        wall_ns=START_NS + seq,
        ledger={
            "lines": {"entered": 30, "scored": 28, "overwritten{backlog}": 1},
            "notes": {"time_went_back": 2},
        },
        reason=reason,
    )


def make_scores(
    times_ns: list[int],
    perplexity: float = 3.0,
    *,
    run: str = "run0",
    source: str = "ETH1",
    pdu: str = "ESC_00",
) -> ScoreBatch:
    """A line of one PDU at each time."""
    count = len(times_ns)
    return ScoreBatch(
        run=run,
        source=source,
        times_ns=times_ns,
        pdus=[pdu] * count,
        perplexity=[perplexity] * count,
        surprisal=[2.0] * count,
        warming=[False] * count,
    )


def make_table(run: str = "run0", lines: int = 10) -> PduTable:
    """A PDU whose cycle is what was learned, one that comes too seldom, one that is unknown."""

    def row(name: str, observed_ns: int | None, known: bool = True) -> PduRow:
        return PduRow(
            name=name,
            source="ETH1",
            known=known,
            cycle_ns=10_000_000 if known else None,
            shortest_ns=9_600_000 if known else None,
            longest_ns=10_500_000 if known else None,
            observed_ns=observed_ns,
            lines=lines,
            last_ns=START_NS,
            episodes=0,
        )

    rows = [row("ESC_00", 10_100_000), row("ESC_01", 20_000_000), row("NEW_02", None, known=False)]
    return PduTable(run=run, last_ns=START_NS, pdus=rows)
