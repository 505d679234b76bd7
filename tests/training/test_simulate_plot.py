"""The picture of the traffic shows every message at its time, in its PDU's row, and what was wrong there."""

import re
import struct
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecustream.errors import ConfigError, OutputError
from training.labels import Context, Label
from training.simulate.batch import Batch
from training.simulate.plot import PlotRow, Traffic, plot_traffic
from training.simulate.traffic_plot import TrafficPlot
from training.simulate.vehicle import EcuModel, PduModel, SocketModel, Vehicle

START_NS = 1_700_000_000_000_000_000
MS = 1_000_000
SVG = "{http://www.w3.org/2000/svg}"
FAULT_FILL, CONTROL_EDGE = "fill: #d62828", "stroke: #1f78b4"


def ecu(name: str, node: int) -> EcuModel:
    return EcuModel(name, node, f"02:00:00:00:00:{node:02x}", 5 * MS, 0, 0, 5_000, 10_000, False, 0, 0)


def pdu(name: str, of_ecu: int, cycle_ms: int | None, fast_ms: int | None = None) -> PduModel:
    return PduModel(
        pdu_id=1,
        name=name,
        ecu=of_ecu,
        sockets=(0,),
        send_type="event" if cycle_ms is None else "cyclic" if fast_ms is None else "mode",
        cycle_ns=None if cycle_ms is None else cycle_ms * MS,
        fast_cycle_ns=None if fast_ms is None else fast_ms * MS,
        length=8,
        constant=bytes(8),
    )


# The PDUs of the two ECUs are not in the order of the ECUs.
VEHICLE = Vehicle(
    name="handmade",
    seed=1,
    ecus=(ecu("HCP1", 1), ecu("HCP4", 2)),
    sockets=(SocketModel(0, 3, "fd53::1", 40001, "ff14::48", 40001),),
    pdus=(
        pdu("Kombi_01", 1, None),
        pdu("ESC_50", 0, 20),
        pdu("HCA_01", 1, 1000, 20),
        pdu("Motor_54", 0, 100),
    ),
)
ROW_OF = {"ESC_50": 0, "Motor_54": 1, "Kombi_01": 2, "HCA_01": 3}


def batch(
    times_ms: list[float],
    pdus: list[list[int]],
    labels: tuple[Label, ...] = (),
    context: tuple[Context, ...] = (),
) -> Batch:
    """Datagrams at times from the start of the trace, with these PDUs."""
    flat = np.array([index for one in pdus for index in one], np.int64)
    time_ns = START_NS + np.array([round(time * MS) for time in times_ms], np.int64)
    zeros = np.zeros(len(time_ns), np.int64)
    first = np.cumsum([0] + [len(one) for one in pdus])
    payload = np.zeros((len(flat), 8), np.uint8)
    until_ns = START_NS + 10**9
    return Batch(until_ns, time_ns, time_ns, zeros, zeros, first, flat, payload, labels, context)


def fault(begin_ms: float, end_ms: float, kind: str, *pdus: str, severity: float = 3) -> Label:
    return Label(START_NS + round(begin_ms * MS), START_NS + round(end_ms * MS), kind, list(pdus), severity)


def happened(begin_ms: float, end_ms: float, kind: str, name: str, *pdus: str) -> Context:
    state = 1 if kind == "activity" else None
    return Context(
        START_NS + round(begin_ms * MS), START_NS + round(end_ms * MS), kind, name, state, list(pdus)
    )


def picture(folder: Path, *batches: Batch, begin_s: float = 0, seconds: float = 1) -> ElementTree.Element:
    plot = TrafficPlot(VEHICLE, START_NS, begin_s, seconds)
    for one in batches:
        plot.add(one)
    plot.save(folder / "traffic.svg")
    return ElementTree.parse(folder / "traffic.svg").getroot()


def texts(svg: ElementTree.Element) -> list[str]:
    return ["".join(element.itertext()).strip() for element in svg.iter(f"{SVG}text")]


def markers(svg: ElementTree.Element) -> set[tuple[float, float]]:
    """Places of all markers, those of the axes' ticks among them."""
    return {(float(use.attrib["x"]), float(use.attrib["y"])) for use in svg.iter(f"{SVG}use")}


def boxes(svg: ElementTree.Element, style: str) -> list[tuple[float, float, float, float]]:
    """Left, right, upper and lower end of the areas in a style; those in the legend are left out."""
    found = []
    for group in svg.iter(f"{SVG}g"):
        if group.attrib.get("id", "").startswith("legend"):
            continue
        for path in group.findall(f"{SVG}path"):
            if style in path.attrib.get("style", "") and "clip-path" in path.attrib:
                numbers = [float(number) for number in re.findall(r"-?\d+\.?\d*", path.attrib["d"])]
                found.append((min(numbers[::2]), max(numbers[::2]), min(numbers[1::2]), max(numbers[1::2])))
    return sorted(found)


def test_message_places(tmp_path: Path) -> None:
    """Each message is at its time and in its PDU's row; rows are ordered by ECU."""
    times_ms = [0, 125, 250.5, 700, 999]
    pdus = [[0], [1, 2], [3], [0, 1, 2], [2]]
    places = markers(picture(tmp_path, batch(times_ms, pdus))) - markers(picture(tmp_path))
    expected = sorted(
        (time, ROW_OF[VEHICLE.pdus[index].name])
        for time, one in zip(times_ms, pdus, strict=True)
        for index in one
    )
    assert len(places) == len(expected)
    x, y = np.array(sorted(places)).T
    time_ms, row = np.array(expected).T
    assert np.allclose(np.polyval(np.polyfit(time_ms, x, 1), time_ms), x, atol=0.01)
    by_row = {int(r): set(np.round(y[row == r], 3)) for r in np.unique(row)}
    heights = [by_row[r].pop() for r in sorted(by_row)]
    assert not any(by_row.values())
    assert np.allclose(np.diff(heights), heights[1] - heights[0], atol=0.01)
    assert heights[1] > heights[0]


def test_window(tmp_path: Path) -> None:
    """Messages from the begin of the window to just before its end are counted, whole datagrams at a time."""
    plot = TrafficPlot(VEHICLE, START_NS, 0.2, 0.3)
    plot.add(batch([0, 199.999999, 200], [[0], [1, 2], [2, 3]]))
    plot.add(batch([300, 499.999999, 500, 900], [[0], [0, 1, 2], [3, 2], [1]]))
    assert plot.messages == 6
    plot.save(tmp_path / "window.svg")
    words = texts(ElementTree.parse(tmp_path / "window.svg").getroot())
    assert "handmade: second 0.2 to 0.5, 6 messages of 4 PDUs, 0 faults" in words


def test_words(tmp_path: Path) -> None:
    """PDUs with their cycles, ECUs, faults with severity, controls, modes and the activity are in words."""
    words = texts(
        picture(
            tmp_path,
            batch(
                [10, 20],
                [[0], [1]],
                (fault(100, 200, "delay", "ESC_50", severity=2), fault(300, 500, "capture_loss", severity=4)),
                (
                    happened(0, 1000, "activity", "normal"),
                    happened(0, 600, "mode", "lane_keeping"),
                    happened(200, 400, "control", "payload_freeze", "Motor_54"),
                ),
            ),
        )
    )
    assert {"HCP1", "HCP4", "delay (severity 2)", "capture_loss (severity 4)"} <= set(words)
    assert {"payload_freeze (control)", "normal", "mode lane_keeping", "active"} <= set(words)
    rows = [word.split(maxsplit=1) for word in words if word.split()[0] in ROW_OF]
    assert rows == [
        ["ESC_50", "20 ms"],
        ["Motor_54", "100 ms"],
        ["Kombi_01", "event"],
        ["HCA_01", "1000/20 ms"],
    ]


def test_intervals_outside_the_window(tmp_path: Path) -> None:
    """A fault that overlaps the window is shown although its label comes later; others are not."""
    early = fault(0, 150, "early", "ESC_50")
    across = fault(450, 2000, "drift", "ESC_50")
    late = fault(501, 700, "missing", "ESC_50")
    words = texts(
        picture(
            tmp_path,
            batch([250], [[1]], (early,), (happened(0, 199, "control", "bus_load"),)),
            batch([], [], (across, late)),
            begin_s=0.2,
            seconds=0.3,
        )
    )
    assert [word for word in words if "(severity" in word or "(control)" in word] == ["drift (severity 3)"]


def test_shades(tmp_path: Path) -> None:
    """A fault is shaded from begin to end on its PDUs' rows alone, one without PDUs on all; so are modes."""
    context = (
        happened(0, 100, "control", "payload_freeze", "HCA_01"),
        happened(0, 600, "mode", "lane_keeping"),
    )
    labels = (fault(250, 500, "stuck_ecu", "Kombi_01", "HCA_01"), fault(500, 1000, "capture_loss"))
    svg = picture(tmp_path, batch([0, 0, 0, 1], [[0], [1], [2], [3]], labels, context))
    (two, everywhere), (control,) = boxes(svg, FAULT_FILL), boxes(svg, CONTROL_EDGE)
    ((mode_left, mode_right, _, mode_lower),) = boxes(svg, "fill: #b9a5d6")
    width = everywhere[1] - everywhere[0]
    assert two[1] - two[0] == pytest.approx(width / 2, abs=0.1)
    assert control[1] - control[0] == pytest.approx(width / 5, abs=0.1)
    assert mode_right - mode_left == pytest.approx(width * 1.2, abs=0.1)
    assert mode_lower <= everywhere[2]
    assert two[1] == pytest.approx(everywhere[0], abs=0.1)
    height = control[3] - control[2]
    assert two[3] - two[2] == pytest.approx(2 * height, abs=0.1)
    assert two[3] == pytest.approx(control[3], abs=0.1)
    assert everywhere[3] - everywhere[2] > 4 * height


def test_severity_is_seen(tmp_path: Path) -> None:
    """The graver the fault, the darker its shade."""
    opacities = []
    for severity in (1, 2, 3, 4):
        label = fault(100, 200, "delay", "ESC_50", severity=severity)
        svg = picture(tmp_path, batch([0], [[0]], (label,)))
        styles = [path.attrib["style"] for path in svg.iter(f"{SVG}path") if "clip-path" in path.attrib]
        opacities += [
            float(opacity)
            for style in styles
            for opacity in re.findall(FAULT_FILL + r"; fill-opacity: ([\d.]+)", style)
        ]
    assert len(opacities) == 4
    assert opacities == sorted(set(opacities))


def many_rows(count: int) -> Traffic:
    """A message in each of many rows; every ECU has 40 PDUs, the fifth row a fault."""
    rows = [PlotRow(f"PDU_{i:04d}", f"ECU_{i // 40}", "100 ms", True) for i in range(count)]
    time_ns = START_NS + np.arange(count) * (10**9 // count)
    labels = [fault(0, 100, "delay", "PDU_0004")]
    return Traffic("many", START_NS, START_NS, START_NS + 10**9, rows, time_ns, np.arange(count), labels, [])


def test_height(tmp_path: Path) -> None:
    """A picture grows with its rows, to 60 inches at most; many rows still have a height of their own."""
    heights = []
    for count in (20, 200, 2_000):
        plot_traffic(many_rows(count), tmp_path / "x.png")
        data = (tmp_path / "x.png").read_bytes()
        assert data.startswith(b"\x89PNG")
        heights.append(struct.unpack(">II", data[16:24])[1] / 110)
    assert heights == sorted(heights)
    assert heights[0] < 10
    assert 20 < heights[1] < 30
    assert heights[2] <= 60


def test_names_of_many_rows(tmp_path: Path) -> None:
    """Beyond 200 rows, only PDUs with faults have a name, and every ECU has."""
    for count, names in ((200, 200), (240, 1)):
        plot_traffic(many_rows(count), tmp_path / "x.svg")
        words = texts(ElementTree.parse(tmp_path / "x.svg").getroot())
        shown = [word for word in words if word.startswith("PDU_")]
        assert len(shown) == names
        assert "PDU_0004" in " ".join(shown)
        assert {f"ECU_{i}" for i in range(count // 40)} <= set(words)


def test_empty_window(tmp_path: Path) -> None:
    """A window in which nothing is sent is a picture too; so is one of a vehicle without PDUs."""
    picture(tmp_path)
    nothing = replace(
        many_rows(20), rows=[], labels=[], time_ns=np.zeros(0, np.int64), row=np.zeros(0, np.int64)
    )
    plot_traffic(nothing, tmp_path / "nothing.pdf")
    assert (tmp_path / "nothing.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_same_bytes(tmp_path: Path, suffix: str) -> None:
    """The same traffic is the same file."""
    paths = [tmp_path / f"{i}.{suffix}" for i in range(2)]
    for path in paths:
        plot_traffic(many_rows(5), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert b"Date" not in paths[0].read_bytes()


def test_wrong_suffix(tmp_path: Path) -> None:
    """A suffix that is no picture's is refused in one sentence, and no file is made."""
    path = tmp_path / "traffic.jpeg"
    with pytest.raises(
        ConfigError, match=r"traffic.jpeg: a picture ends in .png, .svg, .pdf, not in '.jpeg'$"
    ):
        TrafficPlot(VEHICLE, START_NS, 0, 1).save(path)
    assert not path.exists()


def test_unwritable(tmp_path: Path) -> None:
    """A file that cannot be written is one sentence."""
    with pytest.raises(OutputError, match=r"nowhere/x.png: cannot be written: No such file or directory$"):
        plot_traffic(many_rows(5), tmp_path / "nowhere" / "x.png")
