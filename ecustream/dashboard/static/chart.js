// Perplexity over time as SVG: logarithmic upwards, episodes as spans behind.

import { clock, perplexity, s } from "./dom.js";

const LEFT = 46, RIGHT = 10, TOP = 8, BOTTOM = 22;
const STEPS_S = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200];

const midnight = (ms) => new Date(ms).setHours(0, 0, 0, 0);

function niceStep(spanMs, most) {
  return 1000 * (STEPS_S.find((step) => spanMs / 1000 / step <= most) ?? STEPS_S.at(-1));
}

// curves: [{points: [[ms, value, pdu]…], gapMs, dots}], spans: [{from, to, open, title, pick}]
// `origin` is a time at which a tick would stand.
export function drawChart(svg, { from, to, curves, spans, label = clock, origin = midnight(to) }) {
  const { width, height } = svg.getBoundingClientRect();
  if (width < LEFT + RIGHT + 20 || height < 60) return null;
  const highest = Math.max(10, ...curves.map((curve) => curve.points.reduce((top, p) => Math.max(top, p[1]), 1)));
  const decades = Math.ceil(Math.log10(highest) - 1e-9);
  const x = (ms) => LEFT + (ms - from) / (to - from) * (width - LEFT - RIGHT);
  const y = (value) => height - BOTTOM - Math.log10(Math.max(1, value)) / decades * (height - TOP - BOTTOM);
  // One group that is translucent as a whole: many episodes on top of each other hide nothing.
  const shades = s("g", { class: "spans" });
  const parts = [shades];
  for (const span of spans) {
    if (span.to < from || span.from > to) continue;
    const left = Math.max(LEFT, x(span.from)), right = Math.min(width - RIGHT, x(span.to));
    const rect = s("rect", { class: span.open ? "span open" : "span", x: left, y: TOP, width: Math.max(3, right - left), height: height - TOP - BOTTOM }, s("title", {}, span.title));
    if (span.pick) rect.addEventListener("click", span.pick);
    shades.append(rect);
  }
  const every = Math.max(1, Math.ceil(decades / 6));
  for (let decade = 0; decade <= decades; decade += every) {
    const at = y(10 ** decade);
    parts.push(s("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
    parts.push(s("text", { x: LEFT - 6, y: at + 4, "text-anchor": "end" }, decade < 4 ? 10 ** decade : `1e${decade}`));
  }
  const step = niceStep(to - from, width / 110);
  for (let tick = Math.ceil((from - origin) / step) * step + origin; tick <= to; tick += step) {
    parts.push(s("line", { class: "grid", x1: x(tick), x2: x(tick), y1: height - BOTTOM, y2: height - BOTTOM + 4 }));
    const edge = x(tick) > width - 40 ? "end" : "middle";
    parts.push(s("text", { x: Math.min(x(tick), width - 2), y: height - 5, "text-anchor": edge }, label(tick)));
  }
  curves.forEach((curve, i) => {
    let path = "", before = -Infinity;
    for (const [ms, value] of curve.points) {
      if (ms < from || ms > to) continue;
      const at = `${x(ms).toFixed(1)} ${y(value).toFixed(1)}`;
      if (curve.dots) parts.push(s("circle", { class: `s${i % 4}`, cx: x(ms), cy: y(value), r: 2.5 }));
      else path += ms - before > curve.gapMs ? `M${at}h0` : `L${at}`;
      before = ms;
    }
    if (path) parts.push(s("path", { class: `curve s${i % 4}`, d: path }));
  });
  if (!curves.some((curve) => curve.points.length)) {
    parts.push(s("text", { class: "nothing", x: width / 2, y: height / 2, "text-anchor": "middle" }, "no scores so far"));
  }
  svg.replaceChildren(...parts);
  return { x, at: (px) => from + (px - LEFT) / (width - LEFT - RIGHT) * (to - from), TOP, bottom: height - BOTTOM };
}

export function describe(points, source) {
  return points.map(([ms, value, pdu]) => `${clock(ms)}  ${perplexity(value)}  ${pdu}${source ? `  ${source}` : ""}`).join("\n");
}
