"""Messages to publish in tests."""

from ecustream.events import Event, EventPdu, EventScore, Phase
from ecustream.publish.messages import ScoreBatch, Status

RUN = "01JD5Z0000000000000000000A"


def make_event(
    seq: int,
    *,
    phase: Phase = "open",
    episode: int | None = None,
    source: str = "eth1",
    run: str = RUN,
) -> Event:
    """An anomaly as in the design; each `seq` is its own episode unless one is given."""
    return Event(
        run=run,
        seq=seq,
        kind_seq=seq,
        id=f"{run}-{seq if episode is None else episode}",
        kind="anomaly",
        phase=phase,
        source=source,
        start_ns=1_700_000_095_772_264_000,
        end_ns=1_700_000_096_000_000_000 if phase == "close" else None,
        decided_ns=1_700_000_095_774_000_000 + seq,
        published_ns=None,
        frames=(120331, 120344),
        lines=4,
        pdus=[EventPdu(name="ESC_03", lines=3, fields=["deltaTime"])],
        evidence="late",
        score=EventScore(perplexity=4.1, surprisal=11.2, evidence=9.3, threshold=7.9),
        reason="ESC_03 came 31.5 ms after its last occurrence, expected 10.0 ms (9.6 to 10.5)",
        wireshark="frame.number >= 120331 && frame.number <= 120344",
    )


def make_status(seq: int = 0) -> Status:
    """A running service."""
    return Status(
        run=RUN,
        source="eth1",
        state="running",
        seq=seq,
        lines_per_s=2500.0,
        lag_s=0.004,
        wall_ns=1_700_000_096_000_000_000,
        ledger={"lines": {"entered": 3, "scored": 3}},
    )


def make_scores(
    perplexity: list[float], *, warming: list[bool] | None = None, source: str = "eth1"
) -> ScoreBatch:
    """One line per perplexity, 1 ms apart; the surprisal falls where the perplexity rises."""
    count = len(perplexity)
    return ScoreBatch(
        run=RUN,
        source=source,
        times_ns=[i * 1_000_000 for i in range(count)],
        pdus=[f"P{i}" for i in range(count)],
        perplexity=list(perplexity),
        surprisal=[100.0 / p for p in perplexity],
        warming=warming or [False] * count,
    )
