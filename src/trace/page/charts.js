// Axes, bars and lines.
const SVG = "http://www.w3.org/2000/svg";
const byId = id => document.getElementById(id);
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function node(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function element(name, attributes, text) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** A colour between dark blue (0) and yellow (1), readable on light and dark. */
const RAMP = [[68, 57, 130], [49, 104, 142], [33, 145, 140], [94, 201, 98], [246, 218, 60]];
function ramp(value) {
  const at = Math.min(Math.max(value, 0), 1) * (RAMP.length - 1), low = Math.min(Math.floor(at), RAMP.length - 2);
  const mix = RAMP[low].map((part, i) => Math.round(part + (RAMP[low + 1][i] - part) * (at - low)));
  return `rgb(${mix.join(",")})`;
}

/** Round numbers from 0 to about `highest`, about `wanted` of them. */
function ticks(highest, wanted) {
  if (!(highest > 0)) return [0];
  const rough = highest / wanted, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(step => step >= rough);
  const made = [];
  for (let i = 0; i * step <= highest * 1.0001; i++) made.push(+(i * step).toPrecision(6));
  return made;
}

/** An empty chart with axes: `x` and `y` are { low, high, label, ticks, text }. */
function frameOf(width, height, x, y, label) {
  const edge = { left: 52, right: 10, top: 10, bottom: 38 };
  const svg = node("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  const inner = [width - edge.left - edge.right, height - edge.top - edge.bottom];
  const atX = value => edge.left + inner[0] * (value - x.low) / ((x.high - x.low) || 1);
  const atY = value => edge.top + inner[1] * (1 - (value - y.low) / ((y.high - y.low) || 1));
  for (const tick of y.ticks) {
    svg.append(node("line", { x1: edge.left, x2: width - edge.right, y1: atY(tick), y2: atY(tick), stroke: css("--grid") }));
    svg.append(node("text", { x: edge.left - 6, y: atY(tick) + 4, "text-anchor": "end" }, (y.text || number)(tick)));
  }
  for (const tick of x.ticks) {
    svg.append(node("text", { x: atX(tick), y: height - edge.bottom + 16, "text-anchor": "middle" }, (x.text || number)(tick)));
  }
  svg.append(node("text", { x: edge.left + inner[0] / 2, y: height - 4, "text-anchor": "middle" }, x.label));
  svg.append(node("text", { transform: `translate(11 ${edge.top + inner[1] / 2}) rotate(-90)`, "text-anchor": "middle" }, y.label));
  return { svg, atX, atY, edge, inner };
}

/** A bar from `low` to `high` on the x axis. */
function bar(chart, low, high, value, colour, title) {
  const [left, right] = [chart.atX(low), chart.atX(high)], gap = right - left > 4 ? 1 : 0;
  const [top, bottom] = [chart.atY(value), chart.edge.top + chart.inner[1]];
  const rect = node("rect", { x: left + gap / 2, width: Math.max(right - left - gap, 0.4), y: top, height: Math.max(bottom - top, 0), fill: colour });
  rect.append(node("title", {}, title));
  chart.svg.append(rect);
}

function line(chart, points, colour, width, opacity) {
  const path = points.map(([x, y], i) => `${i ? "L" : "M"}${chart.atX(x).toFixed(1)} ${chart.atY(y).toFixed(1)}`).join("");
  chart.svg.append(node("path", { d: path, fill: "none", stroke: colour, "stroke-width": width, opacity, "stroke-linejoin": "round" }));
}

/** A canvas of its size on screen, cleared, in CSS pixels. */
function canvasOf(canvas, height) {
  if (height) canvas.style.height = height + "px";
  const scale = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
  canvas.width = Math.round(box.width * scale);
  canvas.height = Math.round(box.height * scale);
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.font = "11px system-ui, sans-serif";
  return { context, width: box.width, height: box.height };
}

function empty(place, text) {
  place.replaceChildren(element("p", { class: "empty" }, text));
}

function tipAt(event, text) {
  const tip = byId("tip");
  tip.hidden = !text;
  if (!text) return;
  tip.textContent = text;
  const room = window.innerWidth - tip.offsetWidth - 8;
  tip.style.left = Math.max(4, Math.min(event.clientX + 14, room)) + "px";
  tip.style.top = (event.clientY + 16) + "px";
}
