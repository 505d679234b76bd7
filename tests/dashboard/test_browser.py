"""The page in a real Chromium: it opens, lives, survives restarts, and every click leads somewhere."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from ecustream.dashboard.app import MOST_PAGES
from ecustream.publish.pdus import PduTable
from tests.dashboard.browser import CHROMIUM, Browser, Tab
from tests.dashboard.examples import START_NS, S, make_event, make_scores, make_status, make_table
from tests.dashboard.servers import Daemon, Dashboard, free_ports

pytestmark = [
    pytest.mark.timeout(90),
    pytest.mark.skipif(
        CHROMIUM is None, reason="NO CHROMIUM: the page is not tested; apt-get install chromium"
    ),
]

Ports = tuple[int, int]
WORD = "#tiles .word"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One Chromium for all tests."""
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def ports() -> Ports:
    """Where the daemon is."""
    pub, reply = free_ports(2)
    return pub, reply


@pytest.fixture
def dashboard(ports: Ports) -> Iterator[Dashboard]:
    """A dashboard of that daemon."""
    with Dashboard("tcp://127.0.0.1:{},tcp://127.0.0.1:{}".format(*ports)) as dashboard:
        yield dashboard


@pytest.fixture
def tab(browser: Browser, dashboard: Dashboard) -> Iterator[Tab]:
    """Its page, which in the end has had no error."""
    browser.console.clear()
    tab = browser.open(dashboard.url)
    yield tab
    tab.run("1")
    complaints = [text for text in browser.console if "net::ERR" not in text]
    tab.send("Page.close")
    assert not complaints


def live(tab: Tab, daemon: Daemon) -> None:
    """Waits until the page is in step with the daemon and has its status."""
    tab.wait_text(WORD, "OK")
    # The first ones may come before the subscription.
    while "Lines a second\n2,500" not in tab.text("#facts"):
        daemon.status()
        time.sleep(0.05)


def test_from_nothing_to_an_episode_and_back(tab: Tab, ports: Ports) -> None:
    """The big word follows the daemon without a reload, and so does the title."""
    tab.wait_text(WORD, "DISCONNECTED")
    with Daemon(*ports) as daemon:
        live(tab, daemon)
        daemon.event(make_event(1, 1))
        tab.wait_text(WORD, "1 OPEN EPISODE")
        daemon.event(make_event(2, 2))
        tab.wait_text(WORD, "2 OPEN EPISODES")
        tab.wait("document.title.includes('2 open')")
        daemon.event(make_event(3, 1, "close"))
        daemon.event(make_event(4, 2, "close"))
        tab.wait_text(WORD, "OK")
        tab.wait_text("#episode-count", "0 open, 2 ended")


def test_tables(tab: Tab, ports: Ports) -> None:
    """Learned and observed cycles, the ledger and the plot are there, and what deviates is marked."""
    with Daemon(*ports) as daemon:
        live(tab, daemon)
        daemon.publisher.publish_scores(make_scores([START_NS + i * S for i in range(20)], 250.0))
        tab.wait("document.querySelectorAll('#chart path.curve').length === 1")
        tab.wait_text("#pdu-rows", "NEW_02")
        rows = tab.run("[...document.querySelectorAll('#pdu-rows tr')].map(row => row.innerText)")
        assert rows[0].startswith("ESC_01\t10.0 ms (9.6 ms to 10.5 ms)\t20.0 ms")
        odd = tab.run("[...document.querySelectorAll('#pdu-rows td.odd')].map(cell => cell.innerText)")
        assert odd == ["20.0 ms"]
        ledger = tab.text("#ledger tbody")
        assert ledger.splitlines() == [
            "lines\t30\t28 scored + 1 overwritten{backlog}\t1",
            "notes\t\t2 time_went_back\t",
        ]
        assert "2,500" in tab.text("#facts")


def test_pdus_of_one_name(tab: Tab, ports: Ports) -> None:
    """Two PDUs of one name have a row each that says which is which, in the table and in an episode."""
    with Daemon(*ports) as daemon:
        row = make_table().pdus[0]
        same = [msgspec.structs.replace(row, flow=f"to {place}") for place in ("a", "b")]
        daemon.publisher.publish_pdus(PduTable(run="run0", last_ns=START_NS, pdus=same))
        live(tab, daemon)
        tab.wait_text("#pdu-rows", "ESC_00 to b")
        assert "ESC_00 to a" in tab.text("#pdu-rows")
        daemon.event(make_event(1))
        tab.wait("document.querySelector('#open-episodes tr')")
        tab.click("#open-episodes td.reason")
        tab.wait_text("#detail-body", "ESC_00 to a\t2\tdeltaTime\t10.0 ms")
        assert "ESC_00 to b\t\t\t10.0 ms" in tab.text("#detail-body")


def test_several_traces(tab: Tab, ports: Ports) -> None:
    """Each trace has its curve, and an episode says of which it is and marks that trace's PDU alone."""
    with Daemon(*ports) as daemon:
        row = make_table().pdus[0]
        rows = [msgspec.structs.replace(row, flow=f"in {name}") for name in ("a.pcap", "b.pcap")]
        daemon.publisher.publish_pdus(PduTable(run="run0", last_ns=START_NS, pdus=rows))
        live(tab, daemon)
        for i, name in enumerate(("a.pcap", "b.pcap")):
            scores = make_scores([START_NS + (30 * i + j) * S for j in range(20)])
            daemon.publisher.publish_scores(msgspec.structs.replace(scores, trace=name))
        tab.wait("document.querySelectorAll('#chart path.curve').length === 2")
        assert tab.text("#legend").splitlines() == ["ETH1 in a.pcap", "ETH1 in b.pcap"]
        tab.wait_text("#pdu-rows", "ESC_00 in b.pcap")
        daemon.event(msgspec.structs.replace(make_event(1), trace="b.pcap"))
        tab.wait_text("#open-episodes td.names", "ESC_00 in b.pcap")
        tab.wait_text("#pdu-rows tr.open-pdu", "ESC_00 in b.pcap")
        assert tab.run("document.querySelectorAll('#pdu-rows tr.open-pdu').length") == 1
        tab.click("#open-episodes td.reason")
        tab.wait_text("#detail-title", "ETH1 in b.pcap")


def test_one_click_shows_an_episode(tab: Tab, ports: Ports) -> None:
    """Reason, what was expected, its lines and the filter; text from the wire is text; Copy copies."""
    with Daemon(*ports) as daemon:
        live(tab, daemon)
        # The table of the daemon before this one may still stand there.
        tab.wait_text("#pdu-rows", "ESC_01")
        daemon.publisher.publish_scores(make_scores([START_NS + i * S // 4 for i in range(10)]))
        tab.wait("document.querySelectorAll('#chart path.curve').length === 1")
        daemon.event(make_event(1, pdus=2))
        tab.wait("document.querySelector('#open-episodes tr')")
        tab.click("#open-episodes td.reason")
        tab.wait_text("#detail-body", "frame.number >= 0")
        said = tab.text("#detail-body")
        assert "ESC_00 came 1.5 ms after its last occurrence, expected 10.0 ms <b>&amp;</b>" in said
        assert "ESC_01\t2\tdeltaTime\t10.0 ms (9.6 ms to 10.5 ms)\t20.0 ms" in said
        assert tab.run("document.querySelectorAll('.small-chart circle').length") == 9
        tab.run("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
        tab.click("#copy")
        tab.wait_text("#copy", "Copied")
        assert tab.run("copied") == make_event(1).wireshark
        daemon.event(make_event(2, phase="close", pdus=2))
        tab.wait_text("#detail-title", "ended")
        tab.press("Escape", 27)
        tab.wait("!document.querySelector('#detail').open && location.hash === '#0'")


def test_copying_without_a_clipboard(tab: Tab, ports: Ports) -> None:
    """Over plain HTTP from another machine there is no clipboard: the old way is taken."""
    with Daemon(*ports) as daemon:
        live(tab, daemon)
        daemon.event(make_event(1))
        tab.wait("document.querySelector('#open-episodes tr')")
        tab.click("#open-episodes td.reason")
        tab.wait("document.querySelector('#copy')")
        tab.run("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
        tab.run("addEventListener('copy', (event) => { window.copied = event.target.value; })")
        tab.click("#copy")
        tab.wait_text("#copy", "Copied")
        assert tab.run("copied") == make_event(1).wireshark


def test_by_keyboard(tab: Tab, ports: Ports) -> None:
    """Enter on an episode opens it, Escape closes it and the focus is where it was."""
    with Daemon(*ports) as daemon:
        live(tab, daemon)
        daemon.event(make_event(1))
        tab.wait("document.querySelector('#open-episodes button')")
        tab.run("document.querySelector('#open-episodes button').focus()")
        tab.press("Enter", 13)
        tab.wait_text("#detail-body", "frame.number")
        daemon.event(make_event(2, phase="update"))
        tab.wait_text("#detail-body", "came 2.5 ms")
        tab.press("Escape", 27)
        tab.wait("document.activeElement.matches('#open-episodes button')")


def test_a_link_to_an_episode(browser: Browser, dashboard: Dashboard, tab: Tab, ports: Ports) -> None:
    """Its address opens it in another page, and one that is gone is said to be gone."""
    with Daemon(*ports) as daemon:
        live(tab, daemon)
        daemon.event(make_event(1))
        tab.wait_text(WORD, "OPEN")
        for address, said in (("#0/run0-0", "frame.number >= 0"), ("#0/nobody", "not held any more")):
            other = browser.open(dashboard.url + address)
            other.wait_text("#detail-body", said)
            other.send("Page.close")
        browser.console = [text for text in browser.console if "404" not in text]


def test_a_daemon_that_restarts(tab: Tab, ports: Ports) -> None:
    """STALE while it is away, its open episode is cut, and the new run shows without a reload."""
    with Daemon(*ports) as daemon:
        live(tab, daemon)
        daemon.event(make_event(1))
        daemon.status()
        tab.wait_text(WORD, "1 OPEN")
    tab.wait_text(WORD, "STALE")
    with Daemon(*ports, run="run1") as daemon:
        live(tab, daemon)
        tab.wait_text("#ended-episodes", "cut by restart")
        tab.wait_text("#facts", "run1")
        daemon.event(make_event(1, 7))
        tab.wait_text(WORD, "1 OPEN")


def test_a_dashboard_that_restarts(tab: Tab, dashboard: Dashboard, ports: Ports) -> None:
    """DISCONNECTED while it is away; the page finds the next one by itself and shows what is open."""
    with Daemon(*ports) as daemon:
        live(tab, daemon)
        assert dashboard.end() == (0, "")
        tab.wait_text(WORD, "DISCONNECTED")
        assert str(dashboard.port) in tab.text("#tiles .why")
        daemon.event(make_event(1))
        watched = "tcp://127.0.0.1:{},tcp://127.0.0.1:{}".format(*ports)
        with Dashboard(watched, listen=f"127.0.0.1:{dashboard.port}"):
            tab.wait_text(WORD, "1 OPEN")


def test_a_page_that_was_refused(browser: Browser, dashboard: Dashboard, ports: Ports) -> None:
    """Where too many pages are open it says that it has nothing, and comes in once there is room."""
    with Daemon(*ports), ExitStack() as stack:
        for _ in range(MOST_PAGES):
            next(stack.enter_context(dashboard.frames()))
        tab = browser.open(dashboard.url)
        tab.wait("performance.getEntriesByName(location.origin + '/api/stream').length")
        assert tab.text(WORD) == ""
        stack.pop_all().close()
        tab.wait_text(WORD, "OK")
        tab.send("Page.close")


def test_two_daemons(browser: Browser) -> None:
    """A tile each; a click on one shows its episodes."""
    ports = free_ports(4)
    with (
        Daemon(ports[0], ports[1]) as one,
        Daemon(ports[2], ports[3], run="other") as two,
        Dashboard(
            *(f"tcp://127.0.0.1:{ports[i]},tcp://127.0.0.1:{ports[i + 1]}" for i in (0, 2))
        ) as dashboard,
    ):
        tab = browser.open(dashboard.url, 1366, 768)
        one.status()
        two.status(make_status(run="other", state="degraded", reason="no space left"))
        tab.wait_text(".tile:nth-child(2)", "no space left")
        assert tab.text(".tile:nth-child(1) .word") == "OK"
        two.event(make_event(1))
        tab.wait_text(".tile:nth-child(2) .word", "1 OPEN")
        assert "0 open" not in tab.text("#episode-count")
        tab.click(".tile:nth-child(2)")
        tab.wait_text("#episode-count", "1 open")
        tab.send("Page.close")


def test_light_and_dark(tab: Tab) -> None:
    """The page follows the system until the button decides, which lasts over a reload."""
    background = "getComputedStyle(document.body).backgroundColor"
    tab.wait("document.querySelector('#theme')?.innerText")
    tab.prefer("dark")
    dark = tab.run(background)
    tab.prefer("light")
    tab.wait(f"{background} !== {dark!r}")
    tab.click("#theme")
    tab.wait(f"{background} === {dark!r}")
    tab.send("Page.reload")
    tab.wait(f"document.querySelector('#theme')?.innerText === 'Light' && {background} === {dark!r}")
    tab.run("localStorage.clear()")


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1366, 768), (800, 1000)])
def test_it_fits(tab: Tab, ports: Ports, width: int, height: int) -> None:
    """Nothing is wider than the window; where it is large enough all of it is seen at once."""
    tab.resize(width, height)
    with Daemon(*ports) as daemon:
        live(tab, daemon)
        for i in range(40):
            daemon.event(make_event(i + 1, i, pdus=12))
        tab.wait_text(WORD, "40 OPEN")
        page = "document.documentElement"
        assert tab.run(f"{page}.scrollWidth <= {page}.clientWidth")
        if width > 1000:
            wide = (
                "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).length"
            )
            assert tab.run(wide) == 0
            assert tab.run(f"{page}.scrollHeight <= {page}.clientHeight")


def test_many_events_keep_the_page_alive(tab: Tab, ports: Ports) -> None:
    """Thousands of events in a moment, and the page ends up with what is open and answers at once."""
    with Daemon(*ports) as daemon:
        live(tab, daemon)
        for i in range(3000):
            daemon.event(make_event(1, i, "open"))
            daemon.event(make_event(1, i, "close"))
        daemon.event(make_event(1, 5000))
        tab.wait_text("#episode-count", "1 open, 500 ended", 60)
        frame = "(async () => { const t = performance.now(); await new Promise(requestAnimationFrame);"
        assert tab.run(f"{frame} return performance.now() - t; }})()") < 500


def test_screenshots(tab: Tab, ports: Ports, tmp_path: Path) -> None:
    """The page paints something, and another thing in the dark."""
    with Daemon(*ports) as daemon:
        live(tab, daemon)
        images = []
        for scheme in ("light", "dark"):
            tab.prefer(scheme)
            tab.screenshot(tmp_path / f"{scheme}.png")
            images.append((tmp_path / f"{scheme}.png").read_bytes())
        assert images[0] != images[1]
        assert min(map(len, images)) > 20_000
