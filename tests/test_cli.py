"""The command line in a process of its own: exit codes, sentences, start-up."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zmq

from ecustream.publish.curve import Curve
from ecustream.publish.socket import Publisher
from tests.publish.examples import make_event, make_status


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
            (["--pcap", "TRACE", "--pcap", "missing.pcap"], "missing.pcap"),
            (["--pcap", "TRACE", "--pcap", "TRACE"], "is given twice"),
            (["--pcap", "TRACE", "--set", "ring.when_full=skip"], "give scoring.speed (--speed)"),
            ([], "either --pcap or --interface"),
            (["--pcap", "TRACE", "--interface", "lo"], "either --pcap or --interface"),
            (["--interface", "nowhere0"], "interface nowhere0 does not exist; there are: lo"),
            (["--interface", "lo", "--interface", "lo"], "--interface lo: is given twice"),
            (["--interface", "lo", "--speed", "2"], "what comes on an interface comes in real time"),
            (["--pcap", "TRACE", "--set", "scoring.max_wait_ms=-1"], "scoring.max_wait_ms"),
            (["--pcap", "TRACE", "--model", "nowhere"], "nowhere"),
            (["--pcap", "TRACE", "--set", "detect.budget=3"], "detect.budget"),
            (["--pcap", "TRACE", "--speed", "fast"], "scoring.speed"),
            (["--pcap", "TRACE", "--names", "nobody.csv"], "nobody.csv"),
            (["--pcap", "TRACE", "--pub", "tcp://0.0.0.0:5556"], "0.0.0.0"),
            (
                ["--pcap", "TRACE", "--pub", "BUSY"],
                "is in use; is another ecustream running?",
            ),
            (["--pcap", "TRACE", "--format", "xml"], "publish.format"),
            (
                [
                    "--pcap",
                    "TRACE",
                    "--set",
                    "publish.curve_secret=no.key",
                    "--set",
                    "publish.curve_clients=.",
                ],
                "no.key: the secret key cannot be read",
            ),
        ],
    )
    def test_bad_input_is_one_sentence_and_exit_code_2(
        self, clean_trace: Path, bundle_path: Path, options: list[str], says: str
    ) -> None:
        """What cannot be used is named in one line on stderr, without a traceback."""
        busy: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUB)
        url = f"tcp://127.0.0.1:{busy.bind_to_random_port('tcp://127.0.0.1')}"
        full = [{"TRACE": str(clean_trace), "BUSY": url}.get(option, option) for option in options]
        if "--model" not in full:
            full += ["--model", str(bundle_path)]
        done = ecustream("run", *full)
        busy.close(0)
        assert done.returncode == 2
        assert says in done.stderr
        assert done.stderr.count("\n") == 1
        assert "Traceback" not in done.stderr

    def test_several_traces_and_where_the_time_went(
        self, clean_trace: Path, faulty_trace: Path, bundle_path: Path
    ) -> None:
        """--pcap can be repeated, and --profile prints the stages after the summary."""
        done = ecustream(
            "run", "--pcap", clean_trace, "--pcap", faulty_trace, "--model", bundle_path, "--no-publish",
            "--profile",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        words = ["clean.pcapng", "faulty.pcapng", "the ledger balances", "Where the time goes"]
        at = [done.stdout.index(word) for word in words]
        assert at == sorted(at)
        # Every stage that a run has was entered.
        for stage in ("capture", "decode", "wait for lines", "tokenization", "model", "detection"):
            (row,) = [line for line in done.stdout.splitlines() if line.startswith(f"│ {stage} ")]
            assert int(row.split("│")[6]) > 0, row

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

    def test_asyncapi_is_json(self) -> None:
        """`ecustream schema --asyncapi` prints an AsyncAPI document."""
        document = json.loads(ecustream("schema", "--asyncapi").stdout)
        assert (document["asyncapi"], "event" in document["channels"]) == ("3.0.0", True)

    def test_keys_let_in_who_is_listed(self, tmp_path: Path) -> None:
        """With files of `ecustream keys new`, `tail` reads an encrypted publisher; unlisted, nothing."""
        for name in ("bench", "ada", "eve"):
            assert ecustream("keys", "new", name, "--dir", tmp_path).returncode == 0
        done = ecustream("keys", "new", "ada", "--dir", tmp_path)
        assert (done.returncode, "exists already" in done.stderr) == (2, True)
        assert ecustream("tail", "--key", tmp_path / "ada.secret").returncode == 2
        any_ = "tcp://127.0.0.1:*"
        curve = Curve(tmp_path / "bench.secret", tmp_path / "ada.public")
        with Publisher(any_, any_, make_status(), curve=curve, msgpack=True) as publisher:
            command = [sys.executable, "-m", "ecustream", "tail", "--json", "--count", "1"]
            command += ["--connect", f"{publisher.pub_url},{publisher.reply_url}"]
            command += ["--server-key", str(tmp_path / "bench.public"), "--key"]
            with (
                subprocess.Popen([*command, str(tmp_path / "eve.secret")], stdout=subprocess.PIPE) as eve,
                subprocess.Popen([*command, str(tmp_path / "ada.secret")], stdout=subprocess.PIPE) as ada,
            ):
                seq = 0
                while ada.poll() is None or not publisher.counts().refused:
                    seq += 1
                    publisher.publish(make_event(seq))
                    time.sleep(0.01)
                    assert seq < 2000
                assert ada.stdout is not None
                assert eve.stdout is not None
                denied = {"notice": "denied", "url": publisher.pub_url, "why": "is your key on its list?"}
                assert json.loads(eve.stdout.readline()) == denied
                assert eve.poll() is None
                eve.kill()
                assert b'"schema":"ecustream.event/1"' in ada.stdout.read()
                assert b"ecustream.event" not in eve.stdout.read()

    def test_check_names_the_wrong_key(self, tmp_path: Path) -> None:
        """`ecustream check` names a key that does not exist and ends with 2."""
        file = tmp_path / "bench.toml"
        file.write_text("[detect]\nfalse_alarm_per_hour = 2\n")
        done = ecustream("check", file)
        assert done.returncode == 2
        assert "false_alarms_per_hour" in done.stderr

    def test_check_reads_the_keys(self, tmp_path: Path) -> None:
        """`ecustream check` says that a key file is missing before a run would."""
        file = tmp_path / "bench.toml"
        file.write_text('[publish]\ncurve_secret = "bench.secret"\ncurve_clients = "readers"\n')
        done = ecustream("check", file)
        assert done.returncode == 2
        assert "bench.secret: the secret key cannot be read" in done.stderr.replace("\n", "")

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


def test_a_refusal_does_not_wait_for_torch() -> None:
    """What can be refused is refused before the seconds that torch takes."""
    check = "import sys, ecustream.service; print([m for m in ('torch', 'structlog') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
