"""A paced run in a process of its own that the machine stops now and then."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from ecustream.config import load_config
from ecustream.service import Run
from tests.run.test_service_overload import assert_same_scores, scores
from tests.running import OFFLINE


def test_stalls_never_change_a_score(faulty_trace: Path, bundle_path: Path, tmp_path: Path) -> None:
    """A replay whose process is stopped at random gives every score of the run at full speed."""
    log = tmp_path / "stalled.csv"
    command = [sys.executable, "-m", "ecustream", "run", "--pcap", str(faulty_trace), "--speed", "20"]
    command += ["--model", str(bundle_path), "--no-publish", "-q", "--score-log", str(log)]
    draws = random.Random(7)
    stalls = 0
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            time.sleep(draws.uniform(0.02, 0.2))
            if log.exists():
                os.kill(process.pid, signal.SIGSTOP)
                time.sleep(draws.choice([0.01, 0.05, 0.3]))
                os.kill(process.pid, signal.SIGCONT)
                stalls += 1
    assert process.returncode == 0
    assert stalls > 5
    Run(load_config(None, OFFLINE), faulty_trace, bundle_path, score_log=tmp_path / "all.csv").execute()
    assert assert_same_scores(log, tmp_path / "all.csv") == len(scores(tmp_path / "all.csv"))
