"""The table of PDUs: what was learned beside what is seen."""

import msgspec

from ecustream.detect.calibration import PduCalibration
from ecustream.ledger import Ledger
from ecustream.publish.history import History
from ecustream.publish.pdus import PduRow, PduRows, PduTable
from ecustream.run.summary import RunSummary
from ecustream.traffic import STATE_NORMAL, Line, Stream
from tests.publish.examples import RUN, make_status

MS = 1_000_000


def learned(key: str, cycle_ns: int) -> PduCalibration:
    """A PDU of which clean traffic was seen."""
    return PduCalibration(
        key=key,
        name=key.upper(),
        source="eth1",
        lines=100,
        cycle_ns=cycle_ns,
        shortest_ns=(cycle_ns - MS, 2 * cycle_ns - MS),
        longest_ns=(cycle_ns + MS, 2 * cycle_ns + MS),
        delta_onset_nats=1.0,
        delta_scale_nats=1.0,
        name_onset_nats=1.0,
        name_scale_nats=1.0,
    )


class Seen:
    """A run that counts lines of PDUs at given times."""

    def __init__(self) -> None:
        self.summary = RunSummary(RUN, Ledger(), {"a": 10 * MS})
        self.streams: dict[str, Stream] = {}

    def lines(self, key: str, *times_ms: int) -> None:
        """Counts one batch."""
        new = Stream(len(self.streams), key, key.upper(), "eth1", "s", 1, "d", 2)
        stream = self.streams.setdefault(key, new)
        self.summary.count([Line(0, 0, t * MS, stream, STATE_NORMAL, None) for t in times_ms])


def rows_of(rows: PduRows, seen: Seen) -> dict[str, PduRow]:
    """The rows by name."""
    return {row.name: row for row in rows.rows(seen.summary.pdus)}


def test_learned_and_seen() -> None:
    """Learned ones are there before their first line, unknown ones from their first line on."""
    rows, seen = PduRows([learned("a", 10 * MS), learned("b", 0)]), Seen()
    seen.lines("x", 5)
    table = rows_of(rows, seen)
    assert list(table) == ["A", "B", "X"]
    assert (table["A"].cycle_ns, table["A"].shortest_ns, table["A"].longest_ns) == (10 * MS, 9 * MS, 11 * MS)
    assert (table["A"].lines, table["A"].last_ns, table["A"].observed_ns) == (0, None, None)
    assert (table["B"].known, table["B"].cycle_ns, table["B"].longest_ns) == (True, None, None)
    assert (table["X"].known, table["X"].lines, table["X"].last_ns) == (False, 1, 5 * MS)


def test_pdus_of_one_name_are_told_apart() -> None:
    """Learned or new, they bear their destination; where the name says enough, nothing."""
    keys = [f"A|eth1|[fd53::1]:1|[ff14::{i}]:2" for i in (2, 3)]
    rows, seen = PduRows([msgspec.structs.replace(learned(keys[0], 0), name="A"), learned("b", 0)]), Seen()
    stream = Stream(0, keys[1], "A", "eth1", "fd53::1", 1, "ff14::3", 2)
    assert [row.flow for row in rows.rows({})] == ["", ""]
    seen.summary.count([Line(0, 0, MS, stream, STATE_NORMAL, None)])
    assert [(row.name, row.flow) for row in rows.rows(seen.summary.pdus)] == [
        ("A", "to [ff14::2]:2"),
        ("B", ""),
        ("A", "to [ff14::3]:2"),
    ]


def test_observed_is_the_mean_since_the_table_before() -> None:
    """The first line has no interval; without a new line the last mean stays."""
    rows, seen = PduRows([learned("a", 10 * MS)]), Seen()
    seen.lines("a", 100)
    assert rows_of(rows, seen)["A"].observed_ns is None
    seen.lines("a", 110, 120, 132)
    assert rows_of(rows, seen)["A"].observed_ns == 32 * MS // 3
    assert rows_of(rows, seen)["A"].observed_ns == 32 * MS // 3
    seen.lines("a", 152)
    assert rows_of(rows, seen)["A"].observed_ns == 20 * MS


def test_observed_over_a_first_batch() -> None:
    """Where the first table comes after several lines, their intervals count."""
    rows, seen = PduRows([learned("a", 10 * MS)]), Seen()
    seen.lines("a", 100, 110)
    seen.lines("a", 120)
    assert rows_of(rows, seen)["A"].observed_ns == 10 * MS


def test_a_clock_that_goes_back_has_no_interval() -> None:
    """The mean before stays, and the next one counts from the new time."""
    rows, seen = PduRows([learned("a", 10 * MS)]), Seen()
    seen.lines("a", 100, 110)
    rows.rows(seen.summary.pdus)
    seen.lines("a", 10, 20)
    assert rows_of(rows, seen)["A"].observed_ns == 10 * MS
    seen.lines("a", 50)
    assert rows_of(rows, seen)["A"].observed_ns == 30 * MS


def test_the_answer() -> None:
    """`{"op":"pdus"}` gives the last table, and an empty one before there is any."""
    history = History(RUN, 10)
    request = b'{"op":"pdus"}'
    assert msgspec.json.decode(history.answer(request, make_status())) == {
        "run": RUN,
        "last_ns": 0,
        "pdus": [],
    }
    seen = Seen()
    seen.lines("x", 5)
    table = PduTable(run=RUN, last_ns=5 * MS, pdus=PduRows([]).rows(seen.summary.pdus))
    answer = history.answer(request, make_status(), table)
    assert msgspec.json.decode(answer, type=PduTable) == table
