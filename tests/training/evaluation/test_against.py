"""Two bundles compared line by line."""

from pathlib import Path

import msgspec
import pytest

from ecustream.detect.calibration import decode_calibration
from ecustream.errors import ConfigError
from ecustream.scoring.manifest import BundleInfo, read_bundle, write_bundle
from training.evaluation.study import run_study


def changed(bundle: Path, out: Path, **info: object) -> Path:
    """The same bundle, blind for the intervals of every PDU; `info` replaces fields of bundle.json."""
    files = read_bundle(bundle)
    calibration = decode_calibration(files.data["calibration.json"])
    blind = [msgspec.structs.replace(pdu, cycle_ns=0) for pdu in calibration.pdus]
    data = dict(files.data)
    data["calibration.json"] = msgspec.json.encode(msgspec.structs.replace(calibration, pdus=blind))
    new: BundleInfo = msgspec.structs.replace(files.info, **info)
    write_bundle(out, new, data)
    return out


def test_against_itself(faulty_trace: Path, bundle_path: Path) -> None:
    """Nothing differs, and there is something."""
    against = run_study(bundle_path, [faulty_trace], against=bundle_path).report["against"]
    assert against["lines"]["only_new"] == against["lines"]["only_old"] == 0
    assert against["lines"]["both"] > 0
    assert against["labelled_lines"]["both"] > 0
    assert against["faults"]["both"] > 0
    assert against["found"] == {"only_new": [], "only_old": []}


def test_what_one_finds_alone(faulty_trace: Path, bundle_path: Path, tmp_path: Path) -> None:
    """A bundle that sees intervals finds faults that a blind one does not; the reverse is mirrored."""
    blind = changed(bundle_path, tmp_path / "blind")
    study = run_study(bundle_path, [faulty_trace], against=blind)
    new = study.report["against"]
    old = run_study(blind, [faulty_trace], against=bundle_path).report["against"]
    labels = study.cases["faulty"].labels
    assert labels is not None
    assert sum(new["faults"].values()) == len(labels)
    assert new["faults"]["only_new"] == len(new["found"]["only_new"]) > 0
    found = study.report["rows"][0]["faulty"]["found"]
    assert new["faults"]["only_new"] + new["faults"]["both"] == found
    assert new["lines"]["only_new"] > 0
    for what in ("lines", "labelled_lines", "faults", "false", "found"):
        swapped = {"only_new": "only_old", "only_old": "only_new", "new": "old", "old": "new"}
        assert {swapped.get(key, key): value for key, value in old[what].items()} == new[what]
    starts = {label.start_ns for label in labels}
    assert all(fault["start_ns"] in starts for fault in new["found"]["only_new"])


def test_what_either_has_learned_from_is_left_out(
    clean_trace: Path, faulty_trace: Path, bundle_path: Path, tmp_path: Path
) -> None:
    """The old bundle's own trace would flatter it, as the new one's would that."""
    tuned = changed(bundle_path, tmp_path / "tuned", trained={})
    for new, old in ((bundle_path, tuned), (tuned, bundle_path)):
        report = run_study(new, [clean_trace, faulty_trace], against=old).report
        alone = run_study(new, [faulty_trace], against=old).report["against"]
        assert report["against"].pop("left_out") == ["clean"]
        assert alone.pop("left_out") == []
        assert report["against"] == alone
        assert any(note.startswith("clean: not in the comparison") for note in report["notes"])


def test_other_key(faulty_trace: Path, bundle_path: Path, tmp_path: Path) -> None:
    """A bundle to which a PDU is something else cannot be compared line by line."""
    other = changed(bundle_path, tmp_path / "other", key="name")
    with pytest.raises(ConfigError, match="a PDU is the same by its name"):
        run_study(bundle_path, [faulty_trace], against=other)


def test_comparison_is_kept(
    faulty_trace: Path, unseen_clean: Path, bundle_path: Path, tmp_path: Path
) -> None:
    """A resumed evaluation has what was compared before."""
    blind = changed(bundle_path, tmp_path / "blind")
    folder = tmp_path / "kept"
    first = run_study(bundle_path, [faulty_trace], against=blind, folder=folder).report["against"]
    second = run_study(bundle_path, [unseen_clean], against=blind, folder=folder).report["against"]
    assert second["faults"] == first["faults"]
    assert second["lines"]["both"] >= first["lines"]["both"]
