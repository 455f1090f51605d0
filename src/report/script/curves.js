"use strict";
// Curves over time: mean and band of every row that is shown.
(() => {
  const { element, ticks } = report;
  const [WIDTH, HEIGHT] = [420, 220];
  const FRAME = { left: 46, right: 8, top: 8, bottom: 24 };
  const charts = [];
  const of = report.byId("of");

  /** Mean and spread over some videos of a row, second by second. */
  function mixed(lists) {
    const seconds = Math.max(0, ...lists.map((list) => list.length));
    const made = { mean: [], std: [] };
    for (let second = 0; second < seconds; second++) {
      const values = lists.map((list) => list[second] ?? null).filter((value) => value !== null);
      const mean = values.length ? values.reduce((a, b) => a + b, 0) / values.length : null;
      const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
      made.mean.push(mean);
      made.std.push(values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : null);
    }
    return made;
  }

  /** The curves of all rows over the videos that are chosen. */
  function chosen(curves) {
    if (!of.value || of.value === "all") return curves;
    const { prompt, seed } = report.state;
    const fits = (video) =>
      (of.value === "seed" || video.prompt === prompt) && (of.value === "prompt" || video.seed === seed);
    const lists = curves.rows.map(() => []);
    report.data.videos.forEach((video, number) => {
      if (fits(video)) lists[video.row].push(curves.videos[number]);
    });
    return { ...curves, rows: lists.map(mixed) };
  }

  function offer() {
    const { prompts, seeds } = report.data;
    const offered = [["all", "all", true], ["prompt", "the prompt chosen above", prompts.length > 1], ["seed", "the seed chosen above", seeds.length > 1], ["video", "prompt and seed chosen above", prompts.length > 1 && seeds.length > 1]];
    const given = offered.filter(([, , there]) => there && report.data.curves.some((curves) => curves.videos.length));
    of.append(...given.map(([value, text]) => element("option", { value }, text)));
    of.closest("label").style.display = given.length < 2 ? "none" : "";
    of.addEventListener("change", () => charts.forEach((chart) => chart.draw()));
  }

  /** Ends of the values of some rows, with room. */
  function range(curves, rows) {
    let [low, high] = [Infinity, -Infinity];
    for (const row of rows) {
      const { mean, std } = curves.rows[row];
      mean.forEach((value, second) => {
        if (value === null) return;
        low = Math.min(low, value - (std[second] ?? 0));
        high = Math.max(high, value + (std[second] ?? 0));
      });
    }
    if (low > high) return null;
    const flat = high - low < 1e-9;
    const room = flat ? Math.max(Math.abs(high) * 0.05, 0.5) : Math.max((high - low) * 0.06, Math.abs(high) * 1e-3);
    return [low - room, high + room];
  }

  /** Stretches without a gap, as lists of [second, value, spread]. */
  function stretches({ mean, std }) {
    const parts = [[]];
    mean.forEach((value, second) => {
      if (value === null) parts.push([]);
      else parts.at(-1).push([second, value, std[second]]);
    });
    return parts.filter((part) => part.length);
  }

  function scales(curves, rows) {
    const values = range(curves, rows);
    if (!values) return null;
    const seconds = Math.max(1, ...rows.map((row) => curves.rows[row].mean.length));
    const wide = WIDTH - FRAME.left - FRAME.right;
    const high = HEIGHT - FRAME.top - FRAME.bottom;
    return {
      values,
      seconds,
      x: (second) => FRAME.left + (second / seconds) * wide,
      y: (value) => FRAME.top + (1 - (value - values[0]) / (values[1] - values[0])) * high,
      second: (x) => ((x - FRAME.left) / wide) * seconds,
    };
  }

  function axes({ values, seconds, x, y }) {
    const drawn = [];
    const upright = ticks(...values, 4);
    for (const value of upright.found) {
      drawn.push(element("line", { class: "grid", x1: FRAME.left, x2: WIDTH - FRAME.right, y1: y(value), y2: y(value) }));
      const label = value.toFixed(upright.digits).replace(/^-(?=[0.]*$)/, "");
      drawn.push(element("text", { x: FRAME.left - 6, y: y(value) + 4, "text-anchor": "end" }, label));
    }
    const along = ticks(0, seconds, 6);
    for (const second of along.found) {
      const anchor = second >= seconds * 0.97 ? "end" : "middle";
      const label = second.toFixed(along.digits) + (second === 0 ? " s" : "");
      drawn.push(element("text", { x: x(second), y: HEIGHT - 7, "text-anchor": anchor }, label));
    }
    return drawn;
  }

  /** A curve and its band; values stand in the middle of their seconds. */
  function curve(rowCurves, colour, { x, y }) {
    const drawn = [];
    for (const part of stretches(rowCurves)) {
      const at = ([second, value]) => `${x(second + 0.5).toFixed(1)},${y(value).toFixed(1)}`;
      if (part.some(([, , std]) => std !== null)) {
        const upper = part.map(([second, value, std]) => at([second, value + (std ?? 0)]));
        const lower = part.map(([second, value, std]) => at([second, value - (std ?? 0)])).reverse();
        drawn.push(element("path", { class: "band", fill: colour, d: `M${upper.join("L")}L${lower.join("L")}Z` }));
      }
      const line = part.length > 1 ? part.map(at) : [at(part[0]), at(part[0])];
      const cap = part.length > 1 ? "butt" : "round";
      drawn.push(element("path", { class: "line", stroke: colour, "stroke-linecap": cap, d: `M${line.join("L")}` }));
    }
    return drawn;
  }

  class Chart {
    constructor(curves) {
      this.all = curves;
      this.curves = curves;
      this.svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
      this.now = element("line", { class: "now", y1: FRAME.top, y2: HEIGHT - FRAME.bottom });
      this.hair = element("line", { class: "hair", y1: FRAME.top, y2: HEIGHT - FRAME.bottom, visibility: "hidden" });
      this.tip = element("div", { class: "tip", "aria-hidden": "true" });
      this.tip.hidden = true;
      const title = element("figcaption", {}, curves.name, element("small", {}, curves.unit));
      this.figure = element("figure", { class: "chart", "data-metric": curves.key }, title, this.svg, this.tip);
      this.svg.addEventListener("pointermove", (event) => this.point(event));
      this.svg.addEventListener("pointerleave", () => this.leave());
      this.svg.addEventListener("click", (event) => report.goTo(this.secondAt(event)));
    }

    draw() {
      this.curves = chosen(this.all);
      const rows = report.shown().filter((row) => this.curves.rows[row].mean.some((value) => value !== null));
      this.rows = rows;
      this.scales = scales(this.curves, rows);
      const drawn = this.scales ? axes(this.scales) : [element("text", { x: FRAME.left, y: 40 }, "nothing to show")];
      for (const row of this.scales ? rows : []) {
        drawn.push(...curve(this.curves.rows[row], report.data.rows[row].colour, this.scales));
      }
      this.svg.replaceChildren(...drawn, this.hair, this.now);
      this.svg.setAttribute("aria-label", this.spoken(rows));
      this.time();
    }

    /** What the drawing shows, for those who cannot see it. */
    spoken(rows) {
      const ends = rows.map((row) => {
        const values = this.curves.rows[row].mean.filter((value) => value !== null);
        return `${report.data.rows[row].label}: ${report.number(values[0])} to ${report.number(values.at(-1))}`;
      });
      return `${this.curves.name} over time, first to last second. ${ends.join("; ")}`;
    }

    time() {
      const at = this.scales ? this.scales.x(Math.min(report.state.time, this.scales.seconds)) : 0;
      this.now.setAttribute("x1", at);
      this.now.setAttribute("x2", at);
      this.now.setAttribute("visibility", this.scales ? "visible" : "hidden");
    }

    secondAt(event) {
      const box = this.svg.getBoundingClientRect();
      const second = this.scales?.second(((event.clientX - box.left) / box.width) * WIDTH) ?? 0;
      return Math.max(0, Math.min(second, (this.scales?.seconds ?? 1) - 0.001));
    }

    point(event) {
      if (!this.scales) return;
      const second = Math.floor(this.secondAt(event));
      const x = this.scales.x(second + 0.5);
      this.hair.setAttribute("x1", x);
      this.hair.setAttribute("x2", x);
      this.hair.setAttribute("visibility", "visible");
      const value = (row) => this.curves.rows[row].mean[second] ?? null;
      const rows = this.rows.filter((row) => value(row) !== null).sort((a, b) => value(b) - value(a));
      const lines = rows.map((row) => {
        const label = element("span", {}, report.data.rows[row].label);
        return element("div", {}, report.swatch(row), label, element("b", {}, report.number(value(row))));
      });
      this.tip.replaceChildren(element("div", {}, `second ${second}`), ...lines);
      this.tip.hidden = false;
      const right = x > WIDTH / 2;
      this.tip.style.left = right ? "auto" : `${(x / WIDTH) * 100 + 3}%`;
      this.tip.style.right = right ? `${(1 - x / WIDTH) * 100 + 3}%` : "auto";
    }

    leave() {
      this.tip.hidden = true;
      this.hair.setAttribute("visibility", "hidden");
    }
  }

  for (const curves of report.data.curves) {
    const chart = new Chart(curves);
    report.byId(curves.important ? "charts" : "more-charts").append(chart.figure);
    charts.push(chart);
  }
  offer();
  report.byId("curves").hidden = charts.length === 0;
  report.byId("more-box").hidden = !report.byId("more-charts").hasChildNodes();
  report.on("choice", () => charts.forEach((chart) => chart.draw()));
  report.on("time", () => charts.forEach((chart) => chart.time()));
})();
