// The page: the stream of frames, what of it is shown, and the few things one can do.

import { describe, drawChart } from "./chart.js";
import { onClosed, openDetail, refreshDetail } from "./detail.js";
import { $, h, inTrace, kindName, number, setText, s } from "./dom.js";
import { RANGES, Store, words } from "./store.js";
import { Rows, showEpisodes, showHealth, showPdus } from "./tables.js";

const SILENT_MS = 3000, RETRY_MS = 1000, DRAW_MS = 100, MOST_SPANS = 300;
const store = new Store();
let selected = 0, range = 0, down = false, plot = null;

// Where one is stands in the address: #daemon or #daemon/episode.

function readAddress() {
  const [daemon, ...id] = decodeURIComponent(location.hash.slice(1)).split("/");
  selected = Math.max(0, Number.parseInt(daemon, 10) || 0);
  if (id.length) openDetail(selected, id.join("/"));
  else if ($("detail").open) $("detail").close();
}

const goTo = (daemon, id) => { location.hash = id === undefined ? `${daemon}` : `${daemon}/${encodeURIComponent(id)}`; };
window.addEventListener("hashchange", () => { readAddress(); drawn = {}; draw(); });
onClosed(() => { if (location.hash.includes("/")) goTo(selected); });

// The stream. The browser tries again by itself, but not after a refusal and not where a line is dead.

let source = null;

function connect() {
  source?.close();
  store.heard = performance.now();
  source = new EventSource("/api/stream");
  source.onmessage = (event) => {
    store.take(JSON.parse(event.data));
    setDown(false);
  };
  source.onerror = () => setDown(true);
}

function setDown(now) {
  if (down !== now) drawn = {};
  down = now;
}

setInterval(() => {
  const silentMs = performance.now() - store.heard;
  if (silentMs > SILENT_MS) setDown(true);
  if (down && (source.readyState === EventSource.CLOSED || silentMs > SILENT_MS)) connect();
}, RETRY_MS);

// Drawing: what has changed, at most ten times a second.

let drawn = {};

function changed(part, version) {
  const is = drawn[part] !== version;
  drawn[part] = version;
  return is;
}

function headOf(daemon) {
  return down ? { ...daemon.head, state: "disconnected", why: `the dashboard's server at ${location.host} does not answer` } : daemon.head;
}

const tileRows = new Rows();

function drawTiles() {
  const tiles = $("tiles");
  tileRows.keep(new Set(store.daemons.keys()));
  tiles.className = store.daemons.length > 1 ? "several" : "";
  store.daemons.forEach((daemon, i) => {
    const tile = tileRows.get(i, () => {
      const made = h("button", { type: "button", class: "tile" },
        h("span", { class: "word" }, h("span"), h("small")), h("span", { class: "why" }), h("span", { class: "who" }, h("span"), h("span")));
      made.addEventListener("click", () => goTo(i));
      tiles.append(made);
      return made;
    });
    const head = headOf(daemon);
    tile.dataset.state = head.state;
    tile.setAttribute("aria-pressed", i === selected);
    const [big, why, who] = tile.children;
    words(head).forEach((text, place) => setText(big.children[place], text));
    setText(why, head.why || openReason(daemon, head));
    const name = head.source && head.source !== "none" ? head.source : "";
    setText(who.children[0], name);
    who.children[0].hidden = !name;
    const speed = daemon.status && head.state !== "disconnected" ? `${number(Math.round(daemon.status.lines_per_s))} lines/s  ·  ` : "";
    setText(who.children[1], `${speed}${number(head.seq)} events  ·  ${head.connect}`);
  });
  const said = store.daemons.map((daemon) => `${daemon.head.source ?? daemon.head.connect}: ${words(headOf(daemon)).join("").toLowerCase()}`).join(", ");
  setText($("announce"), said);
  const worst = store.daemons.map(headOf).find(({ state }) => state !== "ok" && state !== "ended");
  document.title = `${worst ? `● ${words(worst).join("").toLowerCase()}` : "ok"} – ecustream`;
}

function openReason(daemon, { state }) {
  if (state !== "open") return "";
  const open = [...daemon.episodes.values()].filter((episode) => episode.end === null);
  return open.at(-1)?.reason.split(";")[0] ?? "";
}

function drawPlot(daemon) {
  const to = daemon.head.capture_ms || Date.now();
  const from = to - RANGES[range].ms;
  const curves = daemon.curves(range);
  const spans = [...daemon.episodes.values()].filter((e) => e.start_ms <= to).slice(-MOST_SPANS).map((e) => ({
    from: e.start_ms, to: e.end_ms ?? (e.end === null ? to : e.decided_ms), open: e.end === null,
    title: `${kindName(e.kind)}${inTrace(e)}: ${e.reason}`, pick: () => goTo(selected, e.id),
  }));
  const drawnPlot = drawChart($("chart").querySelector("svg"), { from, to, curves, spans });
  plot = drawnPlot && { ...drawnPlot, curves };
  $("legend").replaceChildren(...(curves.length > 1 ? curves : []).map(({ source: name }, i) => h("span", { class: `s${i % 4}` }, name)));
}

function draw() {
  if (!store.daemons.length) return;
  selected = Math.min(selected, store.daemons.length - 1);
  const daemon = store.daemons[selected];
  const { version } = daemon;
  drawTiles();
  if (changed("episodes", `${selected} ${version.episodes}`)) showEpisodes(daemon, (id) => goTo(selected, id));
  if (changed("plot", `${selected} ${range} ${version.scores} ${version.episodes}`)) drawPlot(daemon);
  if (changed("pdus", `${selected} ${version.pdus} ${version.episodes}`)) showPdus(daemon);
  if (changed("health", `${selected} ${daemon.head.seq} ${daemon.status?.wall_ns} ${daemon.notices.length} ${daemon.notices.at(-1)}`)) showHealth(daemon);
  refreshDetail(store.daemons);
}

setInterval(() => { if (!document.hidden) draw(); }, DRAW_MS);
document.addEventListener("visibilitychange", draw);
new ResizeObserver(() => { drawn.plot = null; draw(); }).observe($("chart"));

// What one can do.

for (const [i, { label }] of RANGES.entries()) {
  const input = h("input", { type: "radio", name: "range", value: i, checked: i === range });
  input.addEventListener("change", () => { range = i; draw(); });
  $("ranges").append(h("label", {}, input, label));
}

const tip = $("tip");
$("chart").addEventListener("pointermove", (event) => {
  const left = $("chart").getBoundingClientRect().left;
  const px = event.clientX - left;
  const at = plot?.at(px);
  const near = plot?.curves.map(({ points, gapMs, source: name }) => {
    const point = points.reduce((best, p) => !best || Math.abs(p[0] - at) < Math.abs(best[0] - at) ? p : best, null);
    return point && Math.abs(point[0] - at) < 8 * gapMs ? describe([point], plot.curves.length > 1 ? name : "") : null;
  }).filter(Boolean) ?? [];
  tip.hidden = !near.length;
  $("chart").querySelector(".cross")?.remove();
  if (!near.length) return;
  $("chart").querySelector("svg").append(s("line", { class: "cross", x1: px, x2: px, y1: plot.TOP, y2: plot.bottom }));
  setText(tip, near.join("\n"));
  tip.style.left = `${Math.min(px + 12, $("chart").clientWidth - tip.offsetWidth - 4)}px`;
});
$("chart").addEventListener("pointerleave", () => {
  tip.hidden = true;
  $("chart").querySelector(".cross")?.remove();
});

const isDark = () => getComputedStyle(document.documentElement).colorScheme === "dark"
  || (getComputedStyle(document.documentElement).colorScheme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);

function nameTheme() {
  setText($("theme"), isDark() ? "Light" : "Dark");
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  nameTheme();
}

$("theme").addEventListener("click", () => {
  const theme = isDark() ? "light" : "dark";
  localStorage.setItem("theme", theme);
  setTheme(theme);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", nameTheme);
setTheme(localStorage.getItem("theme"));

readAddress();
connect();
