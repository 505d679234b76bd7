"""A GPU that fails while lines are scored, for real: its context is broken by a kernel that asserts."""

import json
import subprocess
import sys
from pathlib import Path

from tests.scoring.on_devices import needs_cuda

# In a process of its own: nothing can be computed on the GPU any more in one whose context is broken.
PROGRAM = """
import json, sys, time
from pathlib import Path
import torch
from ecustream.config import load_config
from ecustream.decode.names import NameTable
from ecustream.ledger import Ledger
from ecustream.run.model import Model
from ecustream.run.source import TraceLines
from ecustream.run.succession import Succession
from ecustream.scoring.manifest import read_bundle
from ecustream.stages import StageClock

bundle, trace = map(Path, sys.argv[1:])
config, files = load_config(None, {"scoring.device": "cuda"}), read_bundle(bundle)
load = lambda given, device: Model(given or files, config, 1, StageClock(enabled=False), device)
names = NameTable.load(trace.with_suffix(".names.csv"))
lines = [line for batch in TraceLines(trace, Ledger(), names=names) for line in batch][:3000]
said = []
succession = Succession(load(None, None), load, lambda level, words: said.append([level, words]))
stream = succession.model.open_stream()
scored = succession.score([(stream, lines[:500])]) is not None
# The new one is warmed up, its graphs are recorded, while the old one scores.
succession.reload()
reloaded = None
while reloaded is None:
    reloaded = succession.look(time.monotonic_ns(), list)
    scored = scored and succession.score([(stream, lines[500:756])]) is not None
stream = reloaded.open_stream()
bad = torch.zeros(1, device="cuda")[torch.tensor([5], device="cuda")]
while succession.score([(stream, lines[:256])]) is not None:
    pass
model = None
while model is None:
    model = succession.look(time.monotonic_ns(), lambda: [lines])
again = succession.score([(model.open_stream(), lines[:500])]) is not None
print(json.dumps([scored, again, model.device, succession.trouble, said]))
"""


@needs_cuda
def test_a_gpu_that_fails_is_left_for_the_cpu(bundle_path: Path, clean_trace: Path) -> None:
    """Reloaded beside the scoring first; then lost, and the lines are scored on the CPU from there on."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, bundle_path, clean_trace],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    scored, again, device, trouble, said = json.loads(done.stdout.splitlines()[-1])
    assert scored
    assert again
    assert device == "cpu"
    assert trouble.startswith("the model on cuda was lost (")
    assert trouble.endswith("; scored on cpu since then")
    assert [level for level, _ in said] == ["info", "error", "warning"]
