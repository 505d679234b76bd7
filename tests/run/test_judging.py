"""What the scoring thread does in a pass, and at a change of the model."""

import threading
from pathlib import Path

from ecustream.config import Config, PublishConfig
from ecustream.ledger import Ledger
from ecustream.run.batching import Batcher
from ecustream.run.intake import Intake
from ecustream.run.judging import Judging
from ecustream.run.model import Model
from ecustream.run.outputs import Outputs
from ecustream.run.reporter import Reporter
from ecustream.run.succession import Succession
from ecustream.scoring.manifest import read_bundle
from ecustream.stages import StageClock
from tests.namespaces import wait_for
from tests.run.test_succeeding_tracks import judge, lines_of, track_of


def test_a_model_that_takes_over_beats_while_it_reads(bundle_path: Path, clean_trace: Path) -> None:
    """A large one may read for longer than a stage may stand still, which would end the service."""
    clock = StageClock(enabled=False)
    files = read_bundle(bundle_path)
    model = Model(files, Config(), 1, clock)
    track = track_of(model)
    for chunk in lines_of(clean_trace)[:8]:
        judge(track, model, chunk)
    succession = Succession(model, lambda *_: Model(files, Config(), 1, clock), lambda *_: None)
    ledger = Ledger()
    first = Reporter("run", model.calibration.pdus).status("starting", [], ledger, None)
    outputs = Outputs(PublishConfig(enabled=False), first, ledger, None, [])
    intake = Intake([track.lane.ring], Batcher(128, None), threading.Condition())
    beats: list[int] = []
    judging = Judging(
        [track], intake, succession, outputs, clock, without_model=True, beat=lambda: beats.append(1)
    )
    succession.reload()
    wait_for(judging.succeed, 60)
    assert len(beats) == 8
