"use strict";
// The contact sheet: a row of pictures for every row of the tables, at the same seconds.
(() => {
  const { element, data, state } = report;
  const box = report.byId("sheet");
  const size = report.byId("sheet-size");
  const { sheet } = data;
  const playhead = element("div", { class: "playhead" });
  if (!sheet) {
    report.byId("sheets").hidden = true;
    return;
  }
  const caption = report.byId("sheet-caption");
  const distance = sheet.every === 1 ? "One picture per second" : `One picture every ${sheet.every} seconds`;
  caption.textContent = `${distance}. Click on a picture to go to its moment.`;

  function label(row) {
    return element("div", { class: "sheet-label" }, report.swatch(row), element("span", {}, data.rows[row].label));
  }

  function head(columns) {
    const seconds = Array.from({ length: columns }, (_, at) => element("i", {}, `${at * sheet.every} s`));
    const corner = element("div", { class: "sheet-label" });
    return element("div", { class: "sheet-row sheet-head", "aria-hidden": "true" }, corner, ...seconds);
  }

  function strip(row, cell) {
    const number = report.video(row);
    const uri = number === undefined ? null : report.strip(number);
    if (!uri) {
      const why = number === undefined ? "not rendered yet" : `no pictures: ${data.videos[number].file} is ${data.videos[number].state}`;
      return element("div", { class: "strip none" }, why);
    }
    const text = `${data.rows[row].label}: pictures from 0 s to ${(sheet.pictures[number] - 1) * sheet.every} s`;
    const picture = element("img", { src: uri, alt: text, decoding: "async", draggable: "false" });
    const made = element("div", { class: "strip", style: `width:${sheet.pictures[number] * cell}px` }, picture);
    made.addEventListener("click", (event) => {
      const column = Math.floor((event.clientX - made.getBoundingClientRect().left) / cell);
      report.goTo(column * sheet.every);
    });
    return made;
  }

  const cellWidth = () => Math.round(sheet.width * Number(size.value));

  function draw() {
    const cell = cellWidth();
    const rows = report.shown();
    const counts = rows.map((row) => sheet.pictures[report.video(row)] ?? 0);
    const grid = element("div", {
      class: "sheet-grid",
      style: `--cell:${cell}px;--high:${Math.round((cell * sheet.height) / sheet.width)}px;--label:${innerWidth < 700 ? 5.5 : 10}rem`,
    });
    grid.append(head(Math.max(1, ...counts)));
    for (const row of rows) grid.append(element("div", { class: "sheet-row" }, label(row), strip(row, cell)));
    grid.append(playhead);
    box.replaceChildren(grid);
    time();
  }

  function time() {
    const corner = box.querySelector(".sheet-label");
    if (!corner) return;
    const at = corner.offsetWidth + (state.time / sheet.every) * cellWidth();
    playhead.style.transform = `translateX(${at}px)`;
  }

  size.addEventListener("change", draw);
  report.on("choice", draw);
  report.on("time", time);
})();
