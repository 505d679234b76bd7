"""Says once a second how a run is doing: its status, and the table of its PDUs."""

import time
from collections.abc import Sequence

from msgspec.structs import replace

from ecustream.detect.calibration import PduCalibration
from ecustream.ledger import Ledger
from ecustream.publish.messages import State, Status
from ecustream.publish.pdus import PduRow, PduRows, PduTable
from ecustream.run.outputs import Outputs
from ecustream.run.tracks import Track

__all__ = ["Reporter"]

_EVERY_S = 1.0


class Reporter:
    """Makes the messages of a run about itself.

    Args:
        run: its id.
        calibrations: the PDUs that the bundle knows.
        buses: names of buses that are there although nothing came from them.
    """

    def __init__(self, run: str, calibrations: Sequence[PduCalibration], buses: Sequence[str] = ()) -> None:
        self._run = run
        self._buses = buses
        self._calibrations = calibrations
        self._rows: dict[str, PduRows] = {}
        self._due_s = 0.0
        self._lines = 0

    def know(self, calibrations: Sequence[PduCalibration]) -> None:
        """The bundle was replaced: these are the PDUs that it knows."""
        self._calibrations = calibrations
        self._rows.clear()

    @property
    def due(self) -> bool:
        """Whether a second has passed since the last status."""
        return time.monotonic() >= self._due_s

    def status(
        self,
        state: State,
        tracks: Sequence[Track],
        ledger: Ledger,
        outputs: Outputs | None,
        overload: str | None = None,
        trouble: str | None = None,
    ) -> Status:
        """The status now.

        Args:
            state: of the run, were nothing wrong.
            tracks: one for each trace, as soon as there are any.
            ledger: of everything so far.
            outputs: None before there are any.
            overload: why it is overloaded, None where it is not.
            trouble: what is wrong beside lanes and outputs, None where nothing is.
        """
        now_s = time.monotonic()
        scored = ledger.ends["lines"]["scored"]
        elapsed_s = now_s - (self._due_s - _EVERY_S) if self._due_s else 0.0
        rate = (scored - self._lines) / elapsed_s if elapsed_s > 0 else 0.0
        self._due_s, self._lines = now_s + _EVERY_S, scored
        journal = None if outputs is None else outputs.journal_status()
        troubles = [trouble, *(track.lane.trouble for track in tracks)]
        troubles.append(None if outputs is None else outputs.trouble)
        problem = "; ".join(trouble for trouble in troubles if trouble) or None
        if state != "running":
            overload = None
        elif overload or problem:
            state = "overloaded" if overload else "degraded"
        sources = set(self._buses) | {pdu.source for track in tracks for pdu in track.summary.pdus.values()}
        publisher = None if outputs is None else outputs.publisher
        return Status(
            run=self._run,
            source=",".join(sorted(sources)) or "none",
            state=state,
            seq=0 if outputs is None else outputs.seq,
            lines_per_s=round(rate, 1),
            lag_s=round(max((track.lag_ns for track in tracks), default=0) / 1e9, 3),
            wall_ns=time.time_ns(),
            ledger=ledger.as_dict(),
            reason="; ".join(why for why in (overload, problem) if why) or None,
            journal=journal,
            publish=None if publisher is None else publisher.counts(),
            traces=[track.status() for track in tracks] if len(tracks) > 1 else None,
        )

    def pdus(self, tracks: Sequence[Track]) -> PduTable:
        """The PDUs now; with several traces each has rows of its own."""
        rows: list[PduRow] = []
        for track in tracks:
            maker = self._rows.setdefault(track.lane.name, PduRows(self._calibrations))
            seen = maker.rows(track.summary.pdus)
            if track.trace is not None:
                seen = [replace(row, flow=f"{row.flow} in {track.trace}".lstrip()) for row in seen]
            rows += seen
        reached_ns = max((track.reached_ns for track in tracks), default=0)
        return PduTable(run=self._run, last_ns=reached_ns, pdus=rows)
