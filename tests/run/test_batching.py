"""When a pass of the scorer begins."""

from hypothesis import given
from hypothesis import strategies as st

from ecustream.run.batching import Batcher, Wait, Waiting

MS = 1_000_000
CHUNK = 8
RINGS = st.lists(
    st.builds(Waiting, st.integers(0, 2 * CHUNK), st.integers(0, 100 * MS), st.booleans()),
    min_size=1,
    max_size=4,
)


@given(rings=RINGS, now_ns=st.integers(100 * MS, 10**12))
def test_at_full_speed_a_pass_is_whole(rings: list[Waiting], now_ns: int) -> None:
    """Without a longest wait a pass needs a whole chunk of every ring that goes on, whatever the time."""
    wait = Batcher(CHUNK, None).wait(rings, now_ns)
    ready = all(ring.ended or ring.lines >= CHUNK for ring in rings)
    assert wait.ns == (0 if ready else None)
    assert ready or wait.lines == CHUNK


@given(rings=RINGS, now_ns=st.integers(100 * MS, 300 * MS), max_wait_ms=st.integers(0, 120))
def test_no_line_waits_longer_than_it_may(rings: list[Waiting], now_ns: int, max_wait_ms: int) -> None:
    """A pass begins with a whole chunk, or when the oldest line of all rings has waited long enough."""
    wait = Batcher(CHUNK, max_wait_ms * MS).wait(rings, now_ns)
    arrivals = [ring.oldest_ns for ring in rings if ring.lines]
    if all(ring.ended for ring in rings) or any(ring.lines >= CHUNK for ring in rings):
        assert wait.ns == 0
    elif not arrivals:
        assert wait == Wait(None, 1)
    else:
        assert wait.ns == max(0, min(arrivals) + max_wait_ms * MS - now_ns)
        assert wait.ns == 0 or wait.lines == CHUNK


@given(
    pauses_ms=st.lists(st.integers(0, 20), min_size=1, max_size=60),
    pass_ms=st.integers(1, 30),
    max_wait_ms=st.integers(0, 10),
)
def test_lines_are_scored_soon_and_a_stall_is_made_good(
    pauses_ms: list[int], pass_ms: int, max_wait_ms: int
) -> None:
    """A line is scored within its wait (or the pass in progress) and one pass, unless the passes are full."""
    batcher = Batcher(CHUNK, max_wait_ms)
    arrivals, now = [], 0
    for pause in pauses_ms:
        now += pause
        arrivals.append(now)
    now, taken, backlog = 0, 0, 0
    while taken < len(arrivals):
        held = sum(at <= now for at in arrivals) - taken
        ended = now >= arrivals[-1]
        wait = batcher.wait([Waiting(held, arrivals[taken] if held else 0, ended)], now)
        if wait.ns == 0:
            (take,) = batcher.counts([Waiting(held, 0, ended)])
            soon = arrivals[taken] + max(max_wait_ms, pass_ms) + pass_ms
            assert now + pass_ms <= soon or backlog == CHUNK
            backlog, taken, now = take, taken + take, now + pass_ms
        else:
            upcoming = next(at for at in arrivals if at > now)
            now = upcoming if wait.ns is None else min(upcoming, now + wait.ns)


@given(st.lists(st.integers(0, 500), min_size=1, max_size=5), st.integers(1, 300))
def test_a_pass_takes_a_chunk_of_every_ring(held: list[int], chunk: int) -> None:
    """All that waits in a ring, up to a whole chunk, whether or not there is a longest wait."""
    rings = [Waiting(lines, 0, False) for lines in held]
    for longest_wait in (MS, None):
        assert Batcher(chunk, longest_wait).counts(rings) == [min(lines, chunk) for lines in held]
