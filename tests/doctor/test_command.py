"""The command, in a process of its own and on a real cable."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ecustream.config import Config, load_config
from ecustream.doctor.command import doctor
from ecustream.doctor.examine import Wanted, examine
from ecustream.doctor.facts import model
from ecustream.doctor.findings import Finding, exit_code, ok, problem, warning
from ecustream.doctor.report import print_finding, print_sum, report
from ecustream.scoring.manifest import read_bundle
from tests.doctor.facts.test_traffic import datagrams, sending
from tests.doctor.network import switch
from tests.namespaces import cable, ip, needs_network
from tests.test_cli import ecustream


def free_config(folder: Path, text: str = "") -> Path:
    """A configuration whose sockets do not meet those of other tests."""
    path = folder / "doctor.toml"
    path.write_text(f'{text}\n[publish]\npub = "tcp://127.0.0.1:*"\nreply = "tcp://127.0.0.1:*"\n')
    return path


def levels(report: dict[str, Any]) -> dict[tuple[str | None, str], str]:
    """The level of each check, by what it is of and its title."""
    return {(finding["of"], finding["check"]): finding["level"] for finding in report["findings"]}


def look(tmp_path: Path, **wanted: Any) -> dict[tuple[str | None, str], Finding]:
    """Look without a bundle, which takes no time."""
    wanted = {"interfaces": [], "model": tmp_path / "none", **wanted}
    config = wanted.pop("config", None) or free_config(tmp_path)
    found = examine(Wanted(**{"trace": None, "config": config, "source": None, "seconds": 0.3, **wanted}))
    return {(finding.of, finding.check): finding for finding in found}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process a bundle is measured for a moment only."""
    monkeypatch.setattr(model, "_FIRST_S", 0.05)
    monkeypatch.setattr(model, "_MEASURED_S", 0.1)


class TestCommand:
    def test_trace(self, clean_trace: Path, bundle_path: Path, tmp_path: Path) -> None:
        """A trace of the bundle's vehicle has no problem: one object, exit code 0, and a measured rate."""
        config = free_config(tmp_path)
        done = ecustream(
            "doctor", "--json", "--pcap", clean_trace, "--model", bundle_path, "--config", config
        )
        told = json.loads(done.stdout)
        assert done.returncode == 0, told
        assert told["schema"] == "ecustream.doctor/1"
        assert told["problem"] == 0
        assert sum(told[level] for level in ("ok", "warning", "not_checked")) == len(told["findings"])
        assert levels(told)[clean_trace.name, "bundle and traffic"] == "ok"
        scoring = next(finding for finding in told["findings"] if finding["check"] == "scoring")
        assert scoring["figures"]["lines_per_s"] > 100
        for finding in told["findings"]:
            assert (finding["advice"] is None) == (finding["level"] == "ok")

    def test_lines(
        self, clean_trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], bundle_path: Path
    ) -> None:
        """Elsewhere than on a terminal a finding is a line; another name of the bus is a problem."""
        assert doctor([], clean_trace, bundle_path, config=free_config(tmp_path), source="ETH9") == 1
        *lines, last = capsys.readouterr().out.splitlines()
        assert last.startswith("1 problem, ")
        assert [line for line in lines if line.startswith("problem ")] == [
            line for line in lines if "clean.pcapng bundle and traffic" in line
        ]
        assert all(line.startswith(("ok", "warning", "problem", "not checked")) for line in lines)

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            (["--interface", "lo", "--pcap", "TRACE"], "either --interface or --pcap"),
            (["--pcap", "missing.pcap"], "missing.pcap"),
            (["--interface", "lo", "--interface", "lo"], "--interface lo: is given twice"),
            (["--seconds", "0"], "--seconds"),
        ],
    )
    def test_bad_input(self, options: list[str], says: str, clean_trace: Path) -> None:
        """What cannot be meant is refused with 2, and nothing is looked at."""
        done = ecustream("doctor", *[str(clean_trace) if text == "TRACE" else text for text in options])
        assert (done.returncode, done.stdout) == (2, "")
        assert says in done.stderr


class TestMachine:
    def test_everything_is_looked_at(self, tmp_path: Path) -> None:
        """Without interface and bundle all else is still looked at."""
        found = look(tmp_path)
        for check in ("cores", "governor", "memory", "clock", "clock source", "GPU", "socket publish.pub"):
            assert (None, check) in found
        assert found[None, "bundle"].level == "problem"
        assert found[None, "bundle and traffic"].level == "not checked"

    def test_configuration(self, tmp_path: Path) -> None:
        """A wrong key is a problem that names it; all else is judged by the defaults."""
        path = free_config(tmp_path, "[capture]\nring_mib = 0")
        found = look(tmp_path, config=path)
        assert found[None, "configuration"].level == "problem"
        assert "capture.ring_mib is 0" in found[None, "configuration"].says
        assert Config().publish.pub in found[None, "socket publish.pub"].says
        path.write_text('[input.layouts]\n"42557" = "nonsense"\n')
        assert "input.layouts" in look(tmp_path, config=path)[None, "configuration"].says
        path.write_text('[input]\nnames = "missing.csv"\n')
        assert "missing.csv" in look(tmp_path, config=path)[None, "configuration"].says

    def test_places(self, tmp_path: Path) -> None:
        """An address in use is a problem; the journal's folder is looked at where there is one."""
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            config = tmp_path / "used.toml"
            port = other.getsockname()[1]
            config.write_text(
                f'[publish]\npub = "tcp://127.0.0.1:{port}"\njournal = "journal"\n[metrics]\nport = {port}\n'
            )
            assert load_config(config).publish.journal == str(tmp_path / "journal")
            found = look(tmp_path, config=config)
        assert found[None, "socket publish.pub"].level == "problem"
        assert found[None, "socket metrics.port"].level == "problem"
        assert found[None, "journal"].level == "ok"
        assert not (tmp_path / "journal").exists()
        config.write_text("[publish]\nenabled = false\n")
        found = look(tmp_path, config=config)
        assert "publish.enabled" in found[None, "sockets"].says

    def test_other_key(self, bundle_path: Path, tmp_path: Path) -> None:
        """A bundle that was trained with another key mode is a problem, as a run refuses it."""
        config = free_config(tmp_path, '[input]\nkey = "name"')
        found = look(tmp_path, model=bundle_path, config=config)
        assert found[None, "scoring"].level == "problem"
        assert "input.key" in found[None, "scoring"].says

    def test_damaged_bundle(self, bundle_path: Path, tmp_path: Path) -> None:
        """A bundle that is damaged is a problem that names the file."""
        shutil.copytree(bundle_path, tmp_path / "damaged")
        with (tmp_path / "damaged" / "model.safetensors").open("r+b") as file:
            file.write(b"x")
        finding = look(tmp_path, model=tmp_path / "damaged")[None, "bundle"]
        assert finding.level == "problem"
        assert "model.safetensors" in finding.says


@needs_network
class TestInterface:
    @pytest.fixture(autouse=True)
    def network(self) -> Iterator[None]:
        """A cable with the ends `a0` and `b0`, b0 a bench PC's card that only listens."""
        with cable("doctor"):
            ip("link set lo up")
            switch("b0", "tx-udp-segmentation", False)
            yield

    def test_traffic(self, clean_trace: Path, bundle_path: Path, tmp_path: Path) -> None:
        """By its own name the interface is a problem that says the option; with that there is none."""
        bus = read_bundle(bundle_path).info.pdus[0].source
        with sending(datagrams(clean_trace)):
            wrong = look(tmp_path, interfaces=["b0"], model=bundle_path)
            right = look(tmp_path, interfaces=["b0"], model=bundle_path, source=bus)
        problems = [key for key, finding in wrong.items() if finding.level == "problem"]
        assert problems == [("b0", "bundle and traffic")]
        assert f"`--source {bus}`" in (wrong[problems[0]].advice or "")
        assert [finding for finding in right.values() if finding.level == "problem"] == []
        for check in ("bundle and traffic", "ring and traffic", "lost by the card", "ring", "promiscuous"):
            assert right["b0", check].level == "ok"
        assert right[None, "traffic and scoring"].figures["lines_per_s"] != 0

    @pytest.mark.parametrize(
        ("command", "says"),
        [
            ("link set b0 down", "switched off"),
            ("link set a0 down", "no carrier"),
            ("link set b0 name b1", "does not exist; there are: lo, "),
        ],
    )
    def test_nothing_can_come(self, command: str, says: str, bundle_path: Path, tmp_path: Path) -> None:
        """An interface that is down, without a cable or not there is a problem, and not listened on."""
        if " name " in command:
            ip("link set b0 down")
        ip(command)
        found = look(tmp_path, interfaces=["b0"], model=bundle_path)
        assert found["b0", "interface"].level == "problem"
        assert says in found["b0", "interface"].says
        assert found["b0", "bundle and traffic"].level == "not checked"
        assert found[None, "scoring"].level != "problem"

    def test_no_ethernet(self, tmp_path: Path) -> None:
        """A tunnel of IP packets is a problem, and no ring is tried there."""
        ip("tuntap add dev tun7 mode tun")
        ip("link set tun7 up")
        found = look(tmp_path, interfaces=["tun7"])
        assert "no Ethernet" in found["tun7", "interface"].says
        assert ("tun7", "ring") not in found

    def test_small_mtu(self, tmp_path: Path) -> None:
        """An interface that frames come from can still be less than well."""
        ip("link set b0 mtu 1400")
        found = look(tmp_path, interfaces=["b0"])
        assert (found["b0", "interface"].level, found["b0", "MTU"].level) == ("ok", "warning")

    def test_offloads(self, tmp_path: Path) -> None:
        """Switched on they are told with the command that switches them off, switched off they are well."""
        assert look(tmp_path, interfaces=["b0"])["b0", "offloads"].level == "ok"
        switch("b0", "rx-gro", True)
        switch("b0", "rx-udp-gro-forwarding", True)
        finding = look(tmp_path, interfaces=["b0"])["b0", "offloads"]
        assert finding.level == "problem"
        assert finding.advice == "`ethtool -K b0 gro off rx-udp-gro-forwarding off`"
        assert look(tmp_path, interfaces=["b0"])["b0", "offloads, sending"].level == "ok"
        assert look(tmp_path, interfaces=["a0"])["a0", "offloads, sending"].level == "warning"

    @pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs the command setpriv")
    def test_without_the_right(self, bundle_path: Path, tmp_path: Path) -> None:
        """Without CAP_NET_RAW that is the problem, and all that needs no right is still looked at."""
        command = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", sys.executable]
        command += ["-m", "ecustream", "doctor", "--json", "--interface", "b0", "--model", str(bundle_path)]
        command += ["--config", str(free_config(tmp_path))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        found = levels(json.loads(done.stdout))
        assert done.returncode == 1
        assert found[None, "right to capture"] == "problem"
        assert found["b0", "ring"] == found["b0", "bundle and traffic"] == "not checked"
        for check in ("interface", "offloads", "lost by the card"):
            assert found["b0", check] == "ok"
        assert {(None, "cores"), (None, "clock"), (None, "GPU")} <= found.keys()


class TestReport:
    FOUND = (
        ok("cores", "2 cores", figures={"cores": 2}),
        warning("offloads", "rx-gro [is on]", "`ethtool -K eth1 gro off`", of="eth1"),
        problem("ring", "no memory", None, of="eth1"),
    )

    def test_lines(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Each finding is one line, however long, with its advice as a sentence after it."""
        console = Console(width=20)
        for finding in self.FOUND:
            print_finding(finding, console)
        print_sum(self.FOUND, console)
        assert capsys.readouterr().out.splitlines() == [
            "ok           cores                   2 cores",
            "warning      eth1 offloads           rx-gro [is on]. `ethtool -K eth1 gro off`",
            "problem      eth1 ring               no memory",
            "1 problem, 1 warning, 0 not checked",
        ]

    def test_terminal(self, capsys: pytest.CaptureFixture[str]) -> None:
        """On a terminal the advice is on a line of its own, and brackets stay as they are."""
        console = Console(width=200, force_terminal=True, color_system=None)
        print_finding(self.FOUND[1], console)
        first, second = capsys.readouterr().out.splitlines()
        assert "rx-gro [is on]" in first
        assert second.strip() == "→ `ethtool -K eth1 gro off`"

    def test_json(self) -> None:
        """The object counts the levels, and has every finding with all its fields."""
        told = report(self.FOUND, "a machine")
        assert (told["ok"], told["warning"], told["problem"], told["not_checked"]) == (1, 1, 1, 0)
        assert json.loads(json.dumps(told))["findings"][0] == {
            "check": "cores",
            "of": None,
            "level": "ok",
            "says": "2 cores",
            "advice": None,
            "figures": {"cores": 2},
        }

    def test_exit_code(self) -> None:
        """A problem makes 1, a warning alone does not."""
        assert exit_code(self.FOUND) == 1
        assert exit_code(self.FOUND[:2]) == 0
