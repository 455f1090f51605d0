"use strict";
// The choice of prompt, seed and rows, and the first drawing.
(() => {
  const { element, data, state, byId } = report;

  function options(select, texts, choose) {
    select.append(...texts.map((text, value) => element("option", { value }, text)));
    select.addEventListener("change", () => {
      choose(Number(select.value));
      report.tell("choice");
    });
    select.closest("label").hidden = texts.length < 2;
    select.closest("label").style.display = texts.length < 2 ? "none" : "";
  }

  const chips = data.rows.map((row, number) => {
    const box = element("input", { type: "checkbox" });
    box.checked = row.shown;
    box.addEventListener("change", () => {
      box.checked ? state.rows.add(number) : state.rows.delete(number);
      report.tell("choice");
    });
    const chip = element("label", { class: "chip", title: row.label }, box, report.swatch(number), element("span", {}, row.label));
    chip.hidden = row.skipped;
    chip.style.display = row.skipped ? "none" : "";
    return { box, chip };
  });

  function showAll(all) {
    state.rows = new Set(all ? data.rows.flatMap((row, number) => (row.skipped ? [] : [number])) : []);
    chips.forEach(({ box }, number) => (box.checked = state.rows.has(number)));
    report.tell("choice");
  }

  options(byId("prompt"), data.prompts.map(({ id, text }) => (id ? `${id}: ${text}` : text)), (value) => (state.prompt = value));
  options(byId("seed"), data.seeds, (value) => (state.seed = value));
  byId("chips").append(...chips.map(({ chip }) => chip));
  byId("show-all").addEventListener("click", () => showAll(true));
  byId("show-none").addEventListener("click", () => showAll(false));
  byId("choice").addEventListener("submit", (event) => event.preventDefault());
  byId("choice").hidden = false;

  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      const text = button.parentElement.querySelector("code").textContent;
      const copied = await navigator.clipboard?.writeText(text).then(() => true, () => false);
      button.textContent = copied ? "copied" : "select it";
      setTimeout(() => (button.textContent = "copy"), 1500);
    });
  }

  report.tell("choice");
  // The first picture of the whole page is on the screen two frames later.
  requestAnimationFrame(() => requestAnimationFrame(() => performance.mark("drawn")));
})();
