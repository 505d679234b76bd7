"""What cannot be judged: one sentence, that names the file, and says what is missing."""

import shutil
from pathlib import Path
from typing import Any

import pytest

import ecustream
from ecustream.errors import ConfigError, InputError
from training.evaluation.cases import overlap_note, read_cases
from training.evaluation.study import run_study
from training.labels import Label, beside, encode, read_labels
from training.simulate import draw_vehicle, write_trace

S = 1_000_000_000


def write_labels(trace: Path, *labels: Label) -> None:
    """Labels beside a trace."""
    beside(trace, "labels").write_bytes(b"".join(map(encode, labels)))


def test_labels_outside_the_trace(copied: Path, faulty_trace: Path, bundle_path: Path) -> None:
    """Those of another drive are refused, with where the trace is."""
    first = read_labels(beside(faulty_trace, "labels"))[0]
    hour = 3_600_000_000_000
    write_labels(copied, Label(first.start_ns + hour, first.end_ns + hour, "delay"))
    with pytest.raises(InputError, match=r"copy\.labels\.jsonl: label 1 \(delay, .* after its end\)"):
        run_study(bundle_path, [copied])


def test_labels_just_outside_the_trace(copied: Path, faulty_trace: Path, bundle_path: Path) -> None:
    """One that begins after the last line, but not long after, is missed; that is told."""
    labels = read_labels(beside(faulty_trace, "labels"))
    end_ns = max(label.end_ns for label in labels)
    write_labels(copied, labels[0], Label(end_ns + 8 * S, end_ns + 9 * S, "missing"))
    report = run_study(bundle_path, [copied]).report
    assert sum("copy.labels.jsonl: 1 label lies wholly" in note for note in report["notes"]) == 1
    assert report["totals"]["labels"][0]["faults"] == 2


def test_labels_of_other_names(copied: Path, faulty_trace: Path, bundle_path: Path) -> None:
    """Labels that mean no line make all measures of lines empty; the reason is told."""
    first = read_labels(beside(faulty_trace, "labels"))[0]
    write_labels(copied, Label(first.start_ns, first.end_ns, "delay", ["Nobody"]))
    report = run_study(bundle_path, [copied]).report
    assert any("copy.labels.jsonl: no line of the trace" in note for note in report["notes"])
    assert report["totals"]["labels"][0]["line_recall"] is None


def test_labels_that_are_no_json(copied: Path, bundle_path: Path) -> None:
    """File and line are named."""
    write_labels(copied, Label(1, 2, "delay"))
    with beside(copied, "labels").open("ab") as file:
        file.write(b'{"start_ns": 1,\n')
    with pytest.raises(InputError, match=r"copy\.labels\.jsonl, line 2: "):
        run_study(bundle_path, [copied])


def test_overlapping_labels(copied: Path) -> None:
    """Of one PDU they are told; of two PDUs, or one after the other, they are as good as any."""
    write_labels(
        copied, Label(0, 10, "delay", ["A"]), Label(5, 20, "early", ["B"]), Label(21, 30, "x", ["B"])
    )
    assert overlap_note(read_cases([copied])[0]) is None
    write_labels(
        copied,
        Label(0, 10, "delay", ["A"]),
        Label(1, 2, "x", ["B"]),
        Label(5, 20, "early", ["A", "B"]),
        Label(19, 30, "drift"),
    )
    note = overlap_note(read_cases([copied])[0])
    assert note is not None
    assert "copy.labels.jsonl: 2 labels overlap" in note
    assert "(label 3, early of A, B)" in note


def test_overlap_is_in_the_report(copied: Path, faulty_trace: Path, bundle_path: Path) -> None:
    """The evaluation goes on, and says it."""
    first = read_labels(beside(faulty_trace, "labels"))[0]
    write_labels(copied, first, first)
    report = run_study(bundle_path, [copied]).report
    assert sum("1 label overlaps" in note for note in report["notes"]) == 1


def test_no_labels_at_all(copied: Path, bundle_path: Path) -> None:
    """Then there are rates alone: no share of anything, and hours."""
    report = run_study(bundle_path, [copied]).report
    assert any(note.startswith("no trace has labels: there are rates") for note in report["notes"])
    assert list(report["totals"]) == ["labels"]
    for row in report["totals"]["labels"]:
        assert row["recall"] is row["precision"] is row["average_precision"] is None
        assert row["false_alarms"]["hours"] > 0


def test_shorter_than_the_receptive_field(tmp_path: Path, bundle_path: Path, unseen_clean: Path) -> None:
    """It is left out with a sentence; alone it is refused."""
    short = tmp_path / "short.pcapng"
    write_trace(draw_vehicle("bench"), short, seconds=0.05, drive=4)
    with pytest.raises(InputError, match=r"short\.pcapng is left out: all its .* receptive field") as refused:
        run_study(bundle_path, [short])
    report = run_study(bundle_path, [short, unseen_clean]).report
    assert report["traces"] == ["unseen"]
    assert str(refused.value) in report["notes"]


def test_trace_without_a_pdu(copied: Path, unseen_clean: Path, bundle_path: Path) -> None:
    """A capture that holds its header alone is left out, one of no byte at all is refused."""
    whole = copied.read_bytes()
    header = int.from_bytes(whole[4:8], "little")
    interface = int.from_bytes(whole[header + 4 : header + 8], "little")
    copied.write_bytes(whole[: header + interface])
    report = run_study(bundle_path, [copied, unseen_clean]).report
    assert "copy.pcapng is left out: there is no PDU in it" in report["notes"]
    copied.write_bytes(b"")
    with pytest.raises(InputError, match=r"copy\.pcapng: byte 0: the file is empty"):
        run_study(bundle_path, [copied])


def test_damaged_trace(copied: Path, faulty_trace: Path, bundle_path: Path) -> None:
    """It is judged as far as it goes, and where it ends is told; so it is where labels lie beyond."""
    whole = copied.read_bytes()
    copied.write_bytes(whole[: len(whole) // 4])
    report = run_study(bundle_path, [copied]).report
    told = [
        note for note in report["notes"] if note.startswith("copy.pcapng is damaged, and read only so far")
    ]
    assert len(told) == 1
    assert "copy.pcapng: byte " in told[0]
    assert 0 < report["facts"]["copy"]["hours"] < 15 / 3600
    shutil.copy(beside(faulty_trace, "labels"), beside(copied, "labels"))
    with pytest.raises(InputError, match=r"lies outside the trace .*; copy\.pcapng is damaged, .* byte "):
        run_study(bundle_path, [copied])


def test_mostly_warming(tmp_path: Path, bundle_path: Path) -> None:
    """A trace hardly longer than the receptive field is judged, and the model's silence is told."""
    path = tmp_path / "brief.pcapng"
    write_trace(draw_vehicle("bench"), path, seconds=0.6, drive=4)
    report = run_study(bundle_path, [path]).report
    facts = report["facts"]["brief"]
    assert 0.1 * facts["lines"] < facts["warming_lines"] < facts["lines"]
    assert any("brief.pcapng: " in note and "the model is not heard" in note for note in report["notes"])


def test_two_traces_of_one_name(copied: Path, tmp_path: Path) -> None:
    """Their results could not be told apart."""
    (tmp_path / "more").mkdir()
    twin = Path(shutil.copy(copied, tmp_path / "more" / "copy.pcapng"))
    with pytest.raises(InputError, match="is called copy as well"):
        read_cases([copied, twin])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"baselines": "random,tarot"}, "no baseline is called 'tarot'; there are random, interval rule"),
        ({"false_alarms_per_hour": 0.0}, "--false-alarms-per-hour: 0 is not above 0"),
    ],
)
def test_wrong_options(options: dict[str, object], sentence: str, copied: Path, bundle_path: Path) -> None:
    """Refused before the trace is read."""
    copied.write_bytes(b"garbage")
    with pytest.raises(ConfigError, match=sentence):
        run_study(bundle_path, [copied], **options)  # type: ignore[arg-type]


def test_annotated_trace_without_annotations(copied: Path, unseen_clean: Path, bundle_path: Path) -> None:
    """It says what makes them."""
    with pytest.raises(InputError, match=r"copy\.annotator\.jsonl: .*training annotate"):
        run_study(bundle_path, [unseen_clean], baselines="random", clean=[unseen_clean], annotated=[copied])


def test_annotated_trace_without_annotation(
    copied: Path, unseen_clean: Path, bundle_path: Path, tmp_path: Path
) -> None:
    """From labels of nothing a classifier cannot learn; the others go on."""
    beside(copied, "annotator").write_bytes(b"")
    options: dict[str, Any] = {"clean": [unseen_clean], "annotated": [copied]}
    report = run_study(bundle_path, [copied], baselines="random,logistic regression", **options).report
    assert any("logistic regression cannot learn: no line" in note for note in report["notes"])
    assert "random" in [row["name"] for row in report["rows"]]


def test_annotator_where_nothing_true_is_known(copied: Path, faulty_trace: Path, bundle_path: Path) -> None:
    """Then nobody can say how good it is."""
    shutil.copy(beside(faulty_trace, "annotator"), beside(copied, "annotator"))
    report = run_study(bundle_path, [copied]).report
    assert "annotator" in report["totals"]
    assert not any("the annotator labelled" in note for note in report["notes"])


def test_missing_trace(tmp_path: Path, bundle_path: Path) -> None:
    """It is named."""
    with pytest.raises(InputError, match=r"nothing\.pcapng: cannot be read: No such file"):
        run_study(bundle_path, [tmp_path / "nothing.pcapng"])


def test_other_vehicle(unseen_clean: Path) -> None:
    """Traffic of PDUs that a bundle does not know is judged, and that is told."""
    demo = Path(ecustream.__file__).parent / "bundles" / "demo"
    report = run_study(demo, [unseen_clean], source="ETH9").report
    assert any("unseen.pcapng: 100% of its lines are of PDUs that the bundle" in n for n in report["notes"])
