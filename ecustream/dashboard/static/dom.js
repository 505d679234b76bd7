// Elements and words. Text goes into the page as text only.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined).map((child) => child instanceof Node ? child : String(child)));
  return element;
}

export const h = (tag, attributes = {}, ...children) => filled(document.createElement(tag), attributes, children);
export const s = (tag, attributes = {}, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);

// Changes the page only where something changes: a selection and a screen reader's place survive.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export const number = (value) => value.toLocaleString("en");

const clockFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dateFormat = new Intl.DateTimeFormat("sv-SE", { year: "numeric", month: "2-digit", day: "2-digit" });

export const clock = (ms) => clockFormat.format(ms);
export const preciseClock = (ms) => `${clock(ms)}.${String(Math.floor(ms) % 1000).padStart(3, "0")}`;
export const fullTime = (ms) => `${dateFormat.format(ms)} ${preciseClock(ms)}`;

// Milliseconds in the unit that reads best.
export function duration(ms) {
  if (ms <= 0) return "0 ms";
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  if (ms < 999.95) return `${ms < 99.95 ? ms.toFixed(1) : Math.round(ms)} ms`;
  if (ms < 99950) return `${(ms / 1000).toFixed(ms < 9995 ? 2 : 1)} s`;
  const minutes = Math.floor(ms / 60000);
  return minutes < 120 ? `${minutes} min ${Math.floor(ms / 1000) % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function perplexity(value) {
  if (value === null) return "–";
  return value < 1000 ? value.toPrecision(3) : value < 1e6 ? number(Math.round(value)) : value.toExponential(1);
}

const KINDS = { anomaly: "anomaly", silence: "silence", unknown_pdu: "unknown PDU", capture_gap: "capture gap" };
export const kindName = (kind) => KINDS[kind] ?? kind;

// Which of several traces it is of.
export const inTrace = ({ trace }) => trace === null ? "" : ` in ${trace}`;

const ENDS = { closed: "ended", restarted: "cut by restart", unseen: "end not seen" };
export function badge(end) {
  if (end === null) return h("span", { class: "badge open" }, "OPEN");
  return h("span", { class: end === "closed" ? "badge" : "badge cut" }, ENDS[end] ?? end);
}
