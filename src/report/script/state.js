"use strict";
// What is shown, and who wants to know when that changes.
const report = (() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const data = read("data");
  const listeners = { choice: [], time: [] };
  const state = {
    prompt: 0,
    seed: 0,
    rows: new Set(data.rows.flatMap((row, number) => (row.shown ? [number] : []))),
    time: 0,
  };
  const place = (row, prompt, seed) => `${row}/${prompt}/${seed}`;
  const videos = new Map(data.videos.map((video, number) => [place(video.row, video.prompt, video.seed), number]));
  let strips = null;

  /** An element with attributes and children; texts are texts, never markup. */
  function element(name, attributes = {}, ...children) {
    const svg = ["svg", "path", "line", "text", "title", "g"].includes(name);
    const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "style") made.style.cssText = value;
      else made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  }

  /** Round numbers between two ends. */
  function ticks(low, high, count) {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
    const found = [];
    for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-6; at += step) found.push(at);
    return { found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
  }

  return {
    data,
    state,
    element,
    ticks,
    byId: (id) => document.getElementById(id),
    swatch: (row) => element("span", { class: "swatch", style: `--c:${data.rows[row].colour}` }),
    on: (event, listener) => listeners[event].push(listener),
    tell: (event) => listeners[event].forEach((listener) => listener()),
    /** Rows shown, in order. */
    shown: () => [...state.rows].sort((a, b) => a - b),
    /** Number of the video of a row for the chosen prompt and seed. */
    video: (row) => videos.get(place(row, state.prompt, state.seed)),
    /** Data URIs by the number of the video; read when first needed. */
    strip: (number) => (strips ??= read("strips"))[number],
    /** Playing time of the longest video that is shown. */
    seconds() {
      const shown = this.shown().map((row) => data.videos[this.video(row)]?.seconds ?? 0);
      return Math.max(0, ...shown);
    },
    goTo(time) {
      state.time = Math.max(0, Math.min(time, this.seconds()));
      this.tell("time");
    },
    /** A number with four digits that count. */
    number(value) {
      if (value === null || value === undefined) return "–";
      const size = Math.abs(value);
      const digits = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3;
      return value.toFixed(digits).replace(/^-(?=[0.]*$)/, "");
    },
  };
})();
