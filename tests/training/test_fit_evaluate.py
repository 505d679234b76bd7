"""From clean traces to a bundle, and what `evaluate` says about it."""

import json
from pathlib import Path

import msgspec
import pytest

from ecustream.errors import ConfigError, InputError, OutputError
from ecustream.scoring.bundle import load_bundle
from training.bodies import Body
from training.evaluate import evaluate, render
from training.fit import FitSettings, fit
from training.recipe import Recipe
from training.simulate import draw_vehicle, write_trace
from training.traces import Traces

TINY = FitSettings(
    body=Body(hidden=32, layers=1, heads=2, inner=32, window=32),
    recipe=Recipe(max_steps=4, max_seconds=60, evaluate_every=2),
)


class TestFit:
    def test_bundle_knows_the_vehicle(self, bundle_path: Path) -> None:
        """The bundle lists all PDUs of the traffic, with the cycles that the simulator gave them."""
        info = load_bundle(bundle_path).info
        vehicle = draw_vehicle("bench")
        udp = {pdu.name: pdu for pdu in vehicle.pdus if pdu.role not in ("sync", "follow_up")}
        cyclic = {name for name, pdu in udp.items() if pdu.cycle_ns}
        assert cyclic <= {pdu.name for pdu in info.pdus} <= set(udp)
        for pdu in info.pdus:
            if udp[pdu.name].send_type == "cyclic":
                assert pdu.cycle_ns == pytest.approx(udp[pdu.name].cycle_ns, rel=0.01)
        assert info.receptive_field_tokens == 2 * 63 + 1
        assert info.trained["traces"][0]["lines"] > 20_000

    def test_trace_that_is_too_short(self, tmp_path: Path) -> None:
        """A second of traffic is refused, and nothing half written is left."""
        trace = tmp_path / "short.pcapng"
        write_trace(draw_vehicle("bench"), trace, seconds=0.2, drive=1)
        with pytest.raises(InputError, match="too little traffic"):
            fit(Traces([trace], None), tmp_path / "bundle", TINY)
        assert not (tmp_path / "bundle").exists()

    def test_trace_with_losses(self, tmp_path: Path) -> None:
        """A trace in which the logger lost frames is refused: the gaps would be learned as normal."""
        (tmp_path / "faults.toml").write_text('[[fault]]\nkind = "capture_loss"\nat_s = 6\nsize = 20\n')
        trace = tmp_path / "lossy.pcapng"
        write_trace(draw_vehicle("bench"), trace, seconds=12, drive=1, faults=str(tmp_path / "faults.toml"))
        with pytest.raises(InputError, match=r"lossy\.pcapng: cannot train on it: the logger lost 20 frames"):
            fit(Traces([trace], None), tmp_path / "bundle", TINY)
        assert not (tmp_path / "bundle").exists()

    @pytest.mark.parametrize("what", ["recipe", "body", "out", "work"])
    def test_refused_before_traces_are_read(self, what: str, tmp_path: Path) -> None:
        """What cannot work is told at once, not after hours: here the trace itself would be refused."""
        trace = tmp_path / "garbage.pcapng"
        trace.write_bytes(b"garbage")
        settings, work = TINY, tmp_path / "work"
        if what == "recipe":
            settings = msgspec.structs.replace(TINY, recipe=Recipe(clip=0))
        if what == "body":
            settings = msgspec.structs.replace(TINY, body=Body(heads=5))
        (tmp_path / ("bundle/photos" if what == "out" else "elsewhere")).mkdir(parents=True)
        (work / ("checkpoints/step-3" if what == "work" else "empty")).mkdir(parents=True)
        sentence = {
            "recipe": "recipe.clip",
            "body": "body.hidden",
            "out": "is not a bundle",
            "work": "holds checkpoints",
        }[what]
        with pytest.raises((ConfigError, OutputError), match=sentence):
            fit(Traces([trace], None), tmp_path / "bundle", settings, work=work)

    def test_interrupted(self, clean_trace: Path, tmp_path: Path) -> None:
        """Ctrl-C ends it with a line that says what is kept, and no bundle."""

        def interrupt(sentence: str) -> None:
            said.append(sentence)
            if sentence.startswith("plan"):
                raise KeyboardInterrupt

        traces, out, work = Traces([clean_trace], None), tmp_path / "bundle", tmp_path / "work"
        for resume, end in ((False, "interrupted; nothing is kept of this training"), (True, "from step 4")):
            said: list[str] = []
            steps = 8 if resume else 4
            recipe = msgspec.structs.replace(TINY.recipe, max_steps=steps, save_every=2)
            settings = msgspec.structs.replace(TINY, recipe=recipe)
            with pytest.raises(KeyboardInterrupt):
                fit(traces, out, settings, interrupt, work=work, resume=resume)
            assert said[-1].endswith(end)
            assert not out.exists()
            if not resume:
                fit(traces, tmp_path / "made", settings, work=work)

    def test_missing_trace(self, tmp_path: Path) -> None:
        """A trace that is not there is named."""
        with pytest.raises(InputError, match=r"nothing\.pcap"):
            Traces([tmp_path / "nothing.pcap"], None)

    def test_foreign_folder_is_not_overwritten(self, clean_trace: Path, tmp_path: Path) -> None:
        """A folder that is no bundle stays as it is."""
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
        with pytest.raises(OutputError, match="not a bundle"):
            fit(Traces([clean_trace], None), tmp_path / "photos", TINY)
        assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"cat"


def test_evaluate_compares(clean_trace: Path, faulty_trace: Path, bundle_path: Path) -> None:
    """The report has the detector, each kind of evidence, the rule and the paper's filter, and is JSON."""
    report = evaluate(bundle_path, [clean_trace, faulty_trace])
    rows = {row["name"]: row for row in report["rows"]}
    for name in ("ecustream", "only interval", "only deadline", "only delta", "only name", "without model"):
        assert set(rows[name]) == {"name", "clean", "faulty"}
    assert any(name.startswith("interval rule") for name in rows)
    assert any(name.startswith("paper:") for name in rows)
    assert rows["ecustream"]["clean"]["episodes"] == 0
    assert rows["ecustream"]["faulty"]["found"] >= rows["only name"]["faulty"]["found"]
    assert json.loads(json.dumps(report)) == report
    assert render(report).row_count == len(rows)
