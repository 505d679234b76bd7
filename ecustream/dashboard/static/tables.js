// The lists of a daemon: episodes, PDUs, health and ledger. Rows stay what they are while they change.

import { $, badge, clock, duration, h, inTrace, kindName, number, preciseClock, setText } from "./dom.js";

export class Rows {
  constructor() {
    this.byKey = new Map();
  }
  get(key, make) {
    let row = this.byKey.get(key);
    if (!row) this.byKey.set(key, row = make());
    return row;
  }
  keep(keys) {
    for (const [key, row] of this.byKey) if (!keys.has(key)) row.remove(), this.byKey.delete(key);
  }
}

const episodeRows = new Rows();

export function showEpisodes(daemon, pick) {
  const { episodes } = daemon;
  episodeRows.keep(episodes);
  for (const episode of episodes.values()) {
    const row = episodeRows.get(episode.id, () => h("tr", {}, h("td", {}, h("button", { type: "button", class: "plain", "aria-haspopup": "dialog" }))));
    const version = `${episode.seq} ${episode.end}`;
    const body = episode.end === null ? $("open-episodes") : $("ended-episodes");
    if (row.dataset.version === version) continue;
    row.dataset.version = version;
    // The button stays: it may have the focus, or get it back when the dialog closes.
    const began = row.querySelector("button");
    const focused = document.activeElement === began;
    setText(began, preciseClock(episode.start_ms));
    while (row.children.length > 1) row.lastChild.remove();
    row.append(
      h("td", {}, badge(episode.end)),
      h("td", {}, kindName(episode.kind)),
      h("td", { class: "number" }, episode.end_ms === null ? "–" : duration(episode.end_ms - episode.start_ms)),
      h("td", { class: "reason" }, h("div", { class: "clip", title: episode.reason }, episode.reason)),
      h("td", { class: "names", title: names(episode, 99) + inTrace(episode) }, names(episode, 2), h("span", { class: "range" }, inTrace(episode))),
    );
    row.onclick = () => pick(episode.id);
    if (row.parentNode !== body) body.prepend(row);
    if (focused) began.focus();
  }
  const open = [...episodes.values()].filter((episode) => episode.end === null).length;
  setText($("episode-count"), episodes.size ? `${open} open, ${episodes.size - open} ended` : "");
  $("no-episodes").hidden = episodes.size > 0;
}

function names({ pdus, more_pdus }, most) {
  const more = more_pdus + Math.max(0, pdus.length - most);
  return pdus.slice(0, most).join(", ") + (more ? ` and ${more} more` : "");
}

export function cycle(row) {
  if (!row.cycle_ns) return h("span", { class: "range" }, row.known ? "not cyclic" : "unknown PDU");
  const range = `${duration(row.shortest_ns / 1e6)} to ${duration(row.longest_ns / 1e6)}`;
  return h("span", {}, duration(row.cycle_ns / 1e6), " ", h("span", { class: "range" }, `(${range})`));
}

export const isOdd = (row) => Boolean(row.cycle_ns && row.observed_ns) && (row.observed_ns < row.shortest_ns || row.observed_ns > row.longest_ns);
export const observed = (row) => row.observed_ns ? duration(row.observed_ns / 1e6) : "–";

// Where the observed cycle lies; clean traffic's range is the middle half of the track.
function track(row) {
  if (!row.cycle_ns || !row.observed_ns) return null;
  const at = 25 + 50 * (row.observed_ns - row.shortest_ns) / Math.max(1, row.longest_ns - row.shortest_ns);
  const dot = h("i", { class: isOdd(row) ? "odd" : "" });
  dot.style.setProperty("--at", `${Math.min(100, Math.max(0, at))}%`);
  return h("span", { class: "track", "aria-hidden": "true" }, dot);
}

// What tells it from others of its name.
export const flow = (row) => row?.flow ? h("span", { class: "range" }, ` ${row.flow}`) : null;

const pduRows = new Rows();

export function showPdus(daemon) {
  const table = daemon.pdus;
  const rows = table?.rows ?? [];
  const open = new Set();
  for (const episode of daemon.episodes.values()) {
    if (episode.end !== null) continue;
    for (const { source, name, flow } of rows) {
      const same = source === episode.source && ` ${flow}`.endsWith(inTrace(episode));
      if (same && episode.pdus.includes(name)) open.add(`${source} ${name} ${flow}`);
    }
  }
  const ranked = rows.map((row, i) => {
    const key = `${row.source} ${row.name} ${row.flow}`;
    const late = Boolean(row.longest_ns && row.last_ms !== null) && table.last_ms - row.last_ms > row.longest_ns / 1e6;
    return { row, key: `${key} ${i}`, late, inOpen: open.has(key), rank: open.has(key) ? 0 : late || isOdd(row) ? 1 : row.known ? 3 : 2 };
  });
  ranked.sort((a, b) => a.rank - b.rank || a.row.name.localeCompare(b.row.name, "en", { numeric: true }));
  pduRows.keep(new Set(ranked.map(({ key }) => key)));
  const body = $("pdu-rows");
  ranked.forEach(({ row, key, late, inOpen }, place) => {
    const line = pduRows.get(key, () => h("tr"));
    const age = row.last_ms === null ? "never" : duration(Math.max(0, table.last_ms - row.last_ms));
    const version = JSON.stringify([row, age, inOpen]);
    if (line.dataset.version !== version) {
      line.dataset.version = version;
      line.className = inOpen ? "open-pdu" : "";
      line.replaceChildren(
        h("th", { scope: "row", title: row.source }, inOpen ? "● " : "", row.name, flow(row)),
        h("td", { class: "number" }, cycle(row)),
        h("td", { class: isOdd(row) ? "number odd" : "number" }, observed(row)),
        h("td", {}, track(row)),
        h("td", { class: late ? "number odd" : "number" }, age),
        h("td", { class: "number" }, number(row.lines)),
      );
    }
    if (body.children[place] !== line) body.insertBefore(line, body.children[place] ?? null);
  });
  setText($("pdu-count"), table ? `${rows.length}` : "");
  $("no-pdus").hidden = rows.length > 0;
}

const fact = (name, value, kind = "") => h("div", { class: kind }, h("dt", {}, name), h("dd", {}, value));

export function showHealth(daemon) {
  const { head, status, notices } = daemon;
  const facts = [
    fact("State of the run", status?.state ?? "unknown"),
    fact("Lines a second", status ? number(Math.round(status.lines_per_s)) : "–"),
    fact("Scoring is behind by", status ? duration(status.lag_s * 1000) : "–", status?.lag_s > 2 ? "warn" : ""),
    fact("Events of this run", number(head.seq)),
    fact("Events lost on the way here", number(head.lost), head.lost ? "warn" : ""),
    fact("Restarts seen", number(head.restarts)),
    fact("Run", h("span", { class: "code" }, head.run || "–")),
    fact("Told at", status ? clock(status.wall_ns / 1e6) : "–"),
  ];
  if (status?.journal) {
    const { journalled, missing, size_bytes } = status.journal;
    facts.push(fact("Journal", `${number(journalled)} events, ${(size_bytes / 1e6).toFixed(1)} MB`));
    if (missing) facts.push(fact("Not in the journal", number(missing), "warn"));
  }
  if (status?.reason) facts.push(fact("Degraded because", status.reason, "wide"));
  $("facts").replaceChildren(...facts);
  $("ledger").hidden = !status;
  $("ledger").tBodies[0].replaceChildren(...Object.entries(status?.ledger ?? {}).map(([book, ends]) => ledgerRow(book, ends)));
  $("notices").replaceChildren(...notices.toReversed().map(([ms, what]) => h("li", {}, h("time", {}, clock(ms)), what)));
}

function ledgerRow(book, { entered, ...ends }) {
  const parts = Object.entries(ends).filter(([, count]) => count);
  const ended = parts.map(([end, count]) => `${number(count)} ${end}`).join(" + ");
  const open = entered === undefined ? null : entered - parts.reduce((sum, [, count]) => sum + count, 0);
  return h("tr", {},
    h("td", {}, book),
    h("td", { class: "number" }, entered === undefined ? "" : number(entered)),
    h("td", {}, ended || "–"),
    h("td", { class: "number" }, open === null ? "" : number(open)),
  );
}
