"""Pictures and the page: complete, self-contained, and the same each time."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from training.labels import Label
from training.measures.events import EventMeasures
from training.measures.intervals import union
from training.measures.page import Picture, Section, Table, page
from training.measures.rates import HOUR_NS
from training.measures.recall_plot import RecallCurve, look, plot_recall
from training.measures.score_plot import ScoredTrace, plot_scores
from training.metrics import Span

S = 1_000_000_000
T0 = 1_700_000_000 * S


def score_picture(title: str = "drive 1") -> str:
    times = T0 + np.arange(0, 100 * S, S // 100)
    scores = np.random.default_rng(0).gamma(2, 1, len(times))
    scores[5000:5004] = 40.0
    labels = [Label(T0 + at * S, T0 + (at + 1) * S, "late") for at in (50, 80, 90)]
    episodes = [Span(T0 + at * S, T0 + at * S + 1, T0 + at * S) for at in (10, 20, 50)]
    aside = union([Span(T0 + 60 * S, T0 + 65 * S, 0)])
    return plot_scores(title, ScoredTrace(times, scores, labels, aside), episodes, threshold=15.0)


def recall_picture() -> str:
    good = [
        EventMeasures(found, 10, found + false, false, 0, HOUR_NS)
        for found, false in ((4, 0), (7, 1), (9, 30))
    ]
    return plot_recall("recall", [RecallCurve("model $x_1$", good), RecallCurve("rule <0.05>", good[:1])])


def texts(svg: str) -> list[str]:
    return [
        "".join(element.itertext()).strip()
        for element in ET.fromstring(svg).iter()
        if element.tag.endswith("text")
    ]


def test_score_picture_says_what_was_found() -> None:
    """Counts of found and missed faults, right and false episodes, in text that can be searched."""
    words = texts(score_picture())
    for text in (
        "drive 1",
        "fault, found (1)",
        "fault, missed (2)",
        "told, right (1)",
        "told, false (2)",
        "threshold 15",
    ):
        assert text in words
    assert any("set aside" in text for text in words)


def test_score_picture_of_little() -> None:
    """One line, no label, no threshold; without a line there is nothing to draw."""
    one = ScoredTrace(np.array([T0]), np.array([0.0]))
    assert "told, false (0)" in texts(plot_scores("one", one, []))
    with pytest.raises(ValueError, match="a line at least"):
        plot_scores("none", ScoredTrace(one.times_ns[:0], one.scores[:0]), [])


def test_score_picture_of_a_long_trace_is_small() -> None:
    """A million lines, half of them above the threshold, are a few hundred kB."""
    times = T0 + np.arange(1_000_000) * 1_000_000
    trace = ScoredTrace(times, np.random.default_rng(1).normal(size=1_000_000))
    assert len(plot_scores("long", trace, [], threshold=0.0)) < 300_000


def test_recall_picture_names_detectors_and_marks_no_false_alarm() -> None:
    """Names are taken literally; 0 false alarms have a tick of their own."""
    words = texts(recall_picture())
    assert {"model $x_1$", "rule <0.05>", "0", "100%"} <= set(words)


def test_no_two_detectors_look_alike() -> None:
    """By colour and marker, and by colour and dashes where markers are few; a table has two dozen rows."""
    looks = [look(number) for number in range(24)]
    assert len({(colour, marker) for colour, _, marker in looks}) == 24
    assert len({(colour, dashes) for colour, dashes, _ in looks[:16]}) == 16


def test_recall_picture_leaves_out_what_saw_no_fault() -> None:
    """Clean traffic has no recall, and its false alarms must not stretch the axis."""
    seen, clean = EventMeasures(4, 10, 5, 1, 0, HOUR_NS), EventMeasures(0, 0, 10**6, 10**6, 0, HOUR_NS)
    assert plot_recall("a", [RecallCurve("b", [seen, clean])]) == plot_recall("a", [RecallCurve("b", [seen])])


def test_recall_picture_without_points() -> None:
    """A detector without faults to find is only a name."""
    assert "blind" in texts(plot_recall("none", [RecallCurve("blind", [EventMeasures()])]))


def test_pictures_are_reproducible_and_load_nothing() -> None:
    """The same text each time; no address but the names of XML namespaces."""
    for make in (score_picture, recall_picture):
        svg = make()
        assert svg == make()
        assert set(re.findall(r"https?://[^\"'<> ]+", svg)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }


class _Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.used: list[str] = []
        self.cells: list[tuple[str, str]] = []
        self.tags: set[str] = set()
        self._cell: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        known = dict(attrs)
        self._cell = (known.get("class") or "") if tag in ("td", "th") else self._cell
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.used += [value[1:] for name, value in attrs if name in ("href", "xlink:href") and value]
        self.used += re.findall(r"url\(#([^)]+)\)", " ".join(value or "" for _, value in attrs))

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self.cells.append((data, self._cell))

    def handle_endtag(self, tag: str) -> None:
        self._cell = None if tag in ("td", "th") else self._cell


def make_page(*rows: list[str | int | float | None]) -> str:
    table = Table("what <it> is", ["detector", "recall", "found", "rate"], rows)
    pictures = [Picture(score_picture(), "one"), Picture(score_picture(), 'the "same" again')]
    return page("Report & more", "First.\n\nSecond <b>.", [Section("Part <1>", "Text", [table, *pictures])])


def test_page_is_self_contained() -> None:
    """Nothing to load or run, and no name of one picture meets that of another."""
    html = make_page(["a", 0.5, 3, None])
    parsed = _Page(html)
    assert not parsed.tags & {"script", "link", "img", "iframe", "object"}
    assert "url(http" not in html
    assert "@import" not in html
    assert len(parsed.ids) == len(set(parsed.ids))
    assert parsed.used
    assert set(parsed.used) <= set(parsed.ids)
    assert html == make_page(["a", 0.5, 3, None])


def test_page_escapes_what_it_is_given() -> None:
    """Titles, paragraphs, captions and cells are text."""
    html = make_page(["<script>", 0.5, 3, "x & y"])
    for text in (
        "Report &amp; more",
        "Part &lt;1&gt;",
        "Second &lt;b&gt;.",
        "what &lt;it&gt; is",
        "&lt;script&gt;",
        "x &amp; y",
    ):
        assert text in html
    assert 'aria-label="the &quot;same&quot; again"' in html


def test_cells() -> None:
    """Numbers to the right with the decimals of their column, nothing as a dash."""
    parsed = _Page(make_page(["a", 0.5, 1234, 12.3456], ["b", 0.9444, 3, None], ["c", None, 5, 1.0]))
    cells = [cell for cell in parsed.cells if cell[0].strip()]
    body = cells[4:]
    assert body == [
        ("a", ""), ("0.500", "n"), ("1,234", "n"), ("12.3", "n"),
        ("b", ""), ("0.944", "n"), ("3", "n"), ("–", "n"),
        ("c", ""), ("–", "n"), ("5", "n"), ("1.0", "n"),
    ]  # fmt: skip
    assert ("0.0006", "n") in _Page(make_page(["a", 0.0006, 1, 1], ["b", 0.5, 1, 1])).cells


def test_a_row_that_does_not_fit_is_refused() -> None:
    """A cell too few would move all others."""
    with pytest.raises(ValueError, match="fewer cells"):
        make_page(["a", 0.5, 3])


def test_pictures_follow_the_page_into_the_dark() -> None:
    """No colour of a picture is left that the page does not know, in either scheme."""
    html = make_page(["a", 0.5, 3, None])
    style = html[html.index("<style>") : html.index("</style>")]
    light, dark = style.split("prefers-color-scheme:dark", 1)
    used = set(re.findall(r"var\((--c[0-9a-f]{6})\)", html))
    assert used
    for name in used:
        assert f"{name}:" in light
        assert f"{name}:" in dark
    assert not re.findall(r"#[0-9a-f]{6}", html[html.index("</style>") :])
