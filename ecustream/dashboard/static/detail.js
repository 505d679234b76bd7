// One episode in full: its lines, what was expected, the reason, the Wireshark filter to copy.

import { drawChart } from "./chart.js";
import { $, badge, duration, fullTime, h, inTrace, kindName, number, perplexity, preciseClock, s } from "./dom.js";
import { cycle, flow, isOdd, observed } from "./tables.js";

const dialog = $("detail");
let shown = null;

export function openDetail(daemonIndex, id) {
  if (shown?.id !== id) $("detail-body").replaceChildren();
  shown = { daemonIndex, id, version: null };
  if (!dialog.open) dialog.showModal();
}

export function onClosed(then) {
  $("detail-close").addEventListener("click", () => dialog.close());
  // A click beside the dialog hits the dialog itself, at its backdrop.
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog && event.clientX < dialog.getBoundingClientRect().left) dialog.close();
  });
  dialog.addEventListener("close", () => { shown = null; then(); });
}

// To be called now and then: asks again when the episode has changed.
export async function refreshDetail(daemons) {
  if (!shown || shown.asking) return;
  const row = daemons[shown.daemonIndex]?.episodes.get(shown.id);
  const version = row ? `${row.seq} ${row.end}` : "gone";
  // Lines around it may come a moment later than what it says of itself.
  const settled = shown.version === version && (row?.end !== null && shown.again >= 2);
  if (settled || performance.now() - (shown.asked ?? -1e9) < 1000) return;
  const mine = shown;
  mine.asking = true;
  mine.asked = performance.now();
  mine.again = mine.version === version ? (mine.again ?? 0) + 1 : 0;
  try {
    const query = new URLSearchParams({ daemon: mine.daemonIndex, id: mine.id });
    const answer = await fetch(`/api/episode?${query}`);
    if (mine !== shown) return;
    if (answer.ok) render(await answer.json());
    else if (!$("detail-body").childElementCount) missing();
    mine.version = version;
  } catch {
    // The page says by itself that its server is gone.
  } finally {
    mine.asking = false;
  }
}

function missing() {
  $("detail-title").replaceChildren("Episode");
  $("detail-body").replaceChildren(h("p", {}, "This episode is not held any more."));
}

let rendered = "";

function render(episode) {
  const text = JSON.stringify(episode);
  if (text === rendered && $("detail-body").childElementCount) return;
  rendered = text;
  $("detail-title").replaceChildren(`${kindName(episode.kind)} on ${episode.source}${inTrace(episode)}`, badge(episode.end));
  const body = $("detail-body");
  const scrolled = [...body.querySelectorAll(".scroll")].map((each) => each.scrollTop);
  const top = body.scrollTop;
  body.replaceChildren(
    h("p", { class: "reason" }, episode.reason),
    facts(episode),
    h("h3", {}, "Wireshark filter"),
    filter(episode.wireshark),
    h("h3", {}, `PDUs (${episode.pdus.length})`),
    pdus(episode.pdus),
    h("h3", {}, "Lines around it"),
    ...lines(episode),
    h("h3", {}, "What was said of it"),
    h("ol", {}, ...episode.messages.map((said) => h("li", {}, h("time", {}, preciseClock(said.decided_ms)), h("b", {}, said.phase), said.reason))),
  );
  body.scrollTop = top;
  body.querySelectorAll(".scroll").forEach((each, i) => { each.scrollTop = scrolled[i] ?? 0; });
  drawLines(episode);
}

function facts(episode) {
  const { score } = episode;
  const rows = [
    ["Began", fullTime(episode.start_ms)],
    ["Ended", episode.end_ms === null ? "–" : fullTime(episode.end_ms)],
    ["Duration", episode.end_ms === null ? "–" : duration(episode.end_ms - episode.start_ms)],
    ["Frames", episode.frames ? `${number(episode.frames[0])} to ${number(episode.frames[1])}` : "–"],
    ["Lines", number(episode.lines)],
    ["Kind of evidence", episode.evidence],
    ["Evidence (threshold)", `${score.evidence.toFixed(1)} nats (${score.threshold.toFixed(1)})`],
    ["Perplexity of the strangest line", perplexity(score.perplexity)],
    ["Its surprisal", score.surprisal === null ? "–" : `${score.surprisal.toFixed(1)} nats`],
    ["Episode", h("span", { class: "code" }, episode.id)],
  ];
  return h("dl", {}, ...rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function filter(text) {
  if (!text) return h("p", { class: "muted" }, "There is none: the trace has no frames.");
  const code = h("code", { tabindex: "0" }, text);
  const button = h("button", { type: "button", id: "copy" }, "Copy filter");
  button.addEventListener("click", async () => {
    button.textContent = (await copy(text)) ? "Copied ✓" : "Select and copy";
    setTimeout(() => { button.textContent = "Copy filter"; }, 2000);
  });
  return h("div", { class: "filter" }, code, button);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Not over plain HTTP from another machine: there the old way still works.
    const area = h("textarea", { readonly: true });
    area.value = text;
    $("detail-body").append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

function pdus(list) {
  return h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", {}, "Name"), h("th", { class: "number" }, "Lines"), h("th", {}, "Fields that stood out"),
      h("th", { class: "number" }, "Learned cycle"), h("th", { class: "number" }, "Observed now"))),
    // An episode tells names, of which there may be several: to two destinations, say.
    h("tbody", {}, ...list.flatMap(({ name, lines, fields, rows }) => (rows.length ? rows : [null]).map((row, i) => h("tr", {},
      h("td", {}, name, flow(row)), h("td", { class: "number" }, i ? "" : number(lines)), h("td", {}, i ? "" : fields.join(", ") || "–"),
      h("td", { class: "number" }, row ? cycle(row) : "–"),
      h("td", { class: row && isOdd(row) ? "number odd" : "number" }, row ? observed(row) : "–")))))));
}

function lines(episode) {
  if (!episode.scored.length) return [h("p", { class: "muted" }, "No scored line of its PDUs near it has reached this page.")];
  const note = "Scored lines of its PDUs from 1 s before to 1 s after, as far as they reached this page: the stream of scores is thinned out, peaks stay.";
  return [
    h("div", { class: "small-chart" }, s("svg", { role: "img", "aria-label": "Perplexity of the lines below over time" })),
    h("div", { class: "scroll", tabindex: "0" }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", {}, "Time"), h("th", { class: "number" }, "After its begin"), h("th", {}, "PDU"),
        h("th", { class: "number" }, "Perplexity"), h("th", { class: "number" }, "Surprisal"))),
      h("tbody", {}, ...episode.scored.map(([ms, pdu, value, nats]) => h("tr", {},
        h("td", {}, preciseClock(ms)), h("td", { class: "number" }, offset(ms - episode.start_ms)), h("td", {}, pdu),
        h("td", { class: "number" }, perplexity(value)), h("td", { class: "number" }, `${nats.toFixed(1)} nats`)))))),
    h("p", { class: "muted" }, note),
  ];
}

const offset = (ms) => `${ms < 0 ? "−" : "+"}${duration(Math.abs(ms))}`;


function drawLines(episode) {
  const svg = dialog.querySelector(".small-chart svg");
  if (!svg) return;
  const times = episode.scored.map(([ms]) => ms);
  const end = episode.end_ms ?? Math.max(...times, episode.decided_ms);
  const from = Math.min(times[0], episode.start_ms), to = Math.max(times.at(-1), end) + 1;
  drawChart(svg, {
    from, to, origin: episode.start_ms, label: (ms) => offset(ms - episode.start_ms),
    spans: [{ from: episode.start_ms, to: end, open: episode.end === null, title: "the episode" }],
    curves: [{ dots: true, points: episode.scored.map(([ms, pdu, value]) => [ms, value, pdu]) }],
  });
}
