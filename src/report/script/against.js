"use strict";
// Metrics against the one number that the rows differ in.
(() => {
  const { element, data, ticks } = report;
  const { against } = data;
  const [WIDTH, HEIGHT] = [420, 220];
  const FRAME = { left: 46, right: 14, top: 10, bottom: 38 };
  const DASHES = ["", "6 4", "2 3", "9 3 2 3"];
  if (!against) {
    report.byId("against").hidden = true;
    document.querySelector('nav a[href="#against"]').hidden = true;
    return;
  }
  report.byId("against-title").textContent = `Against ${against.name}`;
  const several = against.lines.length > 1;
  const kinds = several ? ` A line for each of: ${against.lines.map((line) => line.label).join("; ")}.` : "";
  report.byId("against-caption").textContent =
    `Mean over the videos of a setting against ${against.name} (${against.about}); bar: ± 1 sample standard deviation.${kinds}`;

  const values = against.lines.flatMap((line) => line.points.map(([value]) => value));
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const x = (value) => FRAME.left + 10 + ((value - least) / (most - least || 1)) * (WIDTH - FRAME.left - FRAME.right - 20);

  /** Where values lie, with room. */
  function upright(cells) {
    const low = Math.min(...cells.map(([mean, std]) => mean - (std ?? 0)));
    const high = Math.max(...cells.map(([mean, std]) => mean + (std ?? 0)));
    const room = high - low < 1e-9 ? Math.max(Math.abs(high) * 0.05, 0.5) : Math.max((high - low) * 0.08, Math.abs(high) * 1e-3);
    const [bottom, top] = [low - room, high + room];
    const y = (value) => FRAME.top + (1 - (value - bottom) / (top - bottom)) * (HEIGHT - FRAME.top - FRAME.bottom);
    return { y, marks: ticks(bottom, top, 4) };
  }

  function axes({ y, marks }) {
    const drawn = [];
    for (const value of marks.found) {
      drawn.push(element("line", { class: "grid", x1: FRAME.left, x2: WIDTH - FRAME.right, y1: y(value), y2: y(value) }));
      const label = value.toFixed(marks.digits).replace(/^-(?=[0.]*$)/, "");
      drawn.push(element("text", { x: FRAME.left - 6, y: y(value) + 4, "text-anchor": "end" }, label));
    }
    let last = -Infinity;
    for (const value of [...new Set(values)].sort((a, b) => a - b)) {
      // Labels that would overlap are left out.
      if (x(value) - last < 26) continue;
      last = x(value);
      drawn.push(element("text", { x: last, y: HEIGHT - 22, "text-anchor": "middle" }, String(value)));
    }
    drawn.push(element("text", { x: (FRAME.left + WIDTH) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, against.name));
    return drawn;
  }

  function line({ points }, number, cells, y) {
    const there = points.filter(([, row]) => cells[row] && report.state.rows.has(row));
    const path = there.map(([value, row]) => `${x(value).toFixed(1)},${y(cells[row][0]).toFixed(1)}`).join("L");
    const dashes = DASHES[number % DASHES.length];
    const drawn = there.length > 1 ? [element("path", { class: "through", d: `M${path}`, "stroke-dasharray": dashes })] : [];
    for (const [value, row] of there) {
      const [mean, std] = cells[row];
      const colour = data.rows[row].colour;
      if (std !== null) {
        drawn.push(element("line", { stroke: colour, "stroke-width": 2, x1: x(value), x2: x(value), y1: y(mean - std), y2: y(mean + std) }));
      }
      const dot = element("path", { class: "dot", stroke: colour, d: `M${x(value)},${y(mean)}h0` });
      dot.append(element("title", {}, `${data.rows[row].label}: ${report.number(mean)}`));
      drawn.push(dot);
    }
    return drawn;
  }

  function chart(panel) {
    const title = element("figcaption", {}, `${panel.title} ${panel.sign}`, element("small", {}, panel.unit));
    const svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
    const figure = element("figure", { class: "chart", "data-column": panel.key }, title, svg);
    const draw = () => {
      const rows = against.lines.flatMap(({ points }) => points.map(([, row]) => row));
      const shown = rows.filter((row) => panel.cells[row] && report.state.rows.has(row));
      const said = shown.map((row) => `${data.rows[row].label}: ${report.number(panel.cells[row][0])}`);
      svg.setAttribute("aria-label", `${panel.title} against ${against.name}. ${said.join("; ")}`);
      if (!shown.length) {
        svg.replaceChildren(element("text", { x: FRAME.left, y: 40 }, "nothing to show"));
        return;
      }
      const scale = upright(shown.map((row) => panel.cells[row]));
      const lines = against.lines.flatMap((one, number) => line(one, number, panel.cells, scale.y));
      svg.replaceChildren(...axes(scale), ...lines);
    };
    report.on("choice", draw);
    return figure;
  }

  report.byId("against-charts").append(...against.panels.map(chart));
})();
