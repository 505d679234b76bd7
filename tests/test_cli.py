"""The command line in a process of its own: exit codes, sentences, start-up."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def ecustream(*args: object, module: str = "ecustream") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


class TestRun:
    def test_prints_table_and_ledger(self, faulty_trace: Path, bundle_path: Path, tmp_path: Path) -> None:
        """A run ends with 0, a table of PDUs, the number of episodes, and a ledger that balances."""
        events = tmp_path / "events.jsonl"
        done = ecustream(
            "run", "--pcap", faulty_trace, "--model", bundle_path, "--events", events, "--no-publish"
        )
        assert done.returncode == 0, done.stderr
        assert "the ledger balances" in done.stdout
        assert "episodes" in done.stdout
        assert json.loads(events.read_text().splitlines()[0])["schema"] == "ecustream.event/1"

    def test_fail_on_anomaly(self, faulty_trace: Path, bundle_path: Path) -> None:
        """With --fail-on-anomaly a trace with episodes ends with 1."""
        done = ecustream(
            "run", "--pcap", faulty_trace, "--model", bundle_path, "--no-publish", "-q", "--fail-on-anomaly"
        )
        assert done.returncode == 1
        assert done.stdout == ""

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            (["--pcap", "missing.pcap"], "missing.pcap"),
            (["--pcap", "TRACE", "--model", "nowhere"], "nowhere"),
            (["--pcap", "TRACE", "--set", "detect.budget=3"], "detect.budget"),
            (["--pcap", "TRACE", "--speed", "fast"], "scoring.speed"),
            (["--pcap", "TRACE", "--names", "nobody.csv"], "nobody.csv"),
            (["--pcap", "TRACE", "--pub", "tcp://0.0.0.0:5556"], "0.0.0.0"),
        ],
    )
    def test_bad_input_is_one_sentence_and_exit_code_2(
        self, clean_trace: Path, bundle_path: Path, options: list[str], says: str
    ) -> None:
        """What cannot be used is named in one line on stderr, without a traceback."""
        full = [str(clean_trace) if option == "TRACE" else option for option in options]
        if "--model" not in full:
            full += ["--model", str(bundle_path)]
        done = ecustream("run", *full)
        assert done.returncode == 2
        assert says in done.stderr
        assert done.stderr.count("\n") == 1
        assert "Traceback" not in done.stderr

    def test_does_not_import_what_training_needs(self, clean_trace: Path, bundle_path: Path) -> None:
        """`run` imports neither transformers nor peft nor scapy: start-up counts."""
        program = (
            "import sys; from ecustream.cli import app\n"
            "try: app(sys.argv[1:])\n"
            "except SystemExit: pass\n"
            "print([m for m in ('transformers', 'peft', 'scapy', 'accelerate') if m in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, "run", "--pcap", str(clean_trace), "--model", str(bundle_path),
             "--no-publish", "-q"],
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert done.stdout.splitlines()[-1] == "[]", done.stderr


class TestOthers:
    def test_schema_is_json(self) -> None:
        """`ecustream schema` prints a JSON Schema with the event in it."""
        done = ecustream("schema")
        assert "Event" in json.loads(done.stdout)["$defs"]

    def test_check_names_the_wrong_key(self, tmp_path: Path) -> None:
        """`ecustream check` names a key that does not exist and ends with 2."""
        file = tmp_path / "bench.toml"
        file.write_text("[detect]\nfalse_alarm_per_hour = 2\n")
        done = ecustream("check", file)
        assert done.returncode == 2
        assert "false_alarms_per_hour" in done.stderr

    def test_check_accepts_and_prints_what_is_in_force(self, tmp_path: Path) -> None:
        """`ecustream check --effective` prints a configuration that is valid itself."""
        file = tmp_path / "bench.toml"
        file.write_text("[detect]\nfalse_alarms_per_hour = 2\n")
        done = ecustream("check", file, "--effective")
        assert done.returncode == 0
        file.write_text(done.stdout)
        assert "valid" in ecustream("check", file).stdout

    def test_training_says_what_is_wrong(self, tmp_path: Path) -> None:
        """`python -m training fit` on a trace without PDUs ends with 2 and one sentence."""
        from scapy.layers.l2 import ARP, Ether
        from scapy.utils import wrpcap

        trace = tmp_path / "arp.pcap"
        wrpcap(str(trace), [Ether() / ARP()] * 5)
        done = ecustream("fit", trace, "--out", tmp_path / "bundle", module="training")
        assert done.returncode == 2
        assert "arp.pcap" in done.stderr
        assert not (tmp_path / "bundle").exists()
