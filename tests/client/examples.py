"""Messages for the tests of the client."""

from ecustream.events import Event, EventScore, Kind, Phase
from ecustream.publish.messages import ScoreBatch, State, Status

KINDS: tuple[Kind, ...] = ("anomaly", "silence")
EPISODE_EVENTS = 3


def make_event(run: str, seq: int) -> Event:
    """Events of two kinds on two sources; three in a row open, update and close one episode."""
    episode, step = divmod(seq - 1, EPISODE_EVENTS)
    phases: tuple[Phase, ...] = ("open", "update", "close")
    return Event(
        run=run,
        seq=seq,
        kind_seq=(seq + 1) // 2,
        id=f"{run}-{episode}",
        kind=KINDS[seq % 2],
        phase=phases[step],
        source=f"eth{seq % 2}",
        start_ns=1_700_000_095_000_000_000 + seq,
        end_ns=None,
        decided_ns=1_700_000_095_000_000_000 + seq,
        published_ns=None,
        frames=None,
        lines=1,
        pdus=[],
        evidence="late",
        score=EventScore(perplexity=4.1, surprisal=11.2, evidence=9.3, threshold=7.9),
        reason="ESC_03 came 31.5 ms after its last occurrence",
    )


def open_episodes(run: str, seq: int) -> list[Event]:
    """The last message of each episode that is open after event `seq`."""
    return [make_event(run, seq)] if seq % EPISODE_EVENTS else []


def make_status(run: str, seq: int, state: State = "running") -> Status:
    """A service that has published `seq` events."""
    return Status(
        run=run,
        source="eth0,eth1",
        state=state,
        seq=seq,
        lines_per_s=2500.0,
        lag_s=0.0,
        wall_ns=1_700_000_096_000_000_000,
        ledger={},
    )


def make_scores(run: str, source: str = "eth0") -> ScoreBatch:
    """One line."""
    return ScoreBatch(
        run=run, source=source, times_ns=[1], pdus=["P"], perplexity=[2.0], surprisal=[3.0], warming=[False]
    )
