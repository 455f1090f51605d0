"use strict";
// The results: sorted by the column that is clicked.
(() => {
  const table = report.byId("table");
  const heads = [...table.tHead.rows[0].cells];

  function value(row, column) {
    const cell = row.cells[column];
    if (column === 0) return Number(row.dataset.row);
    return cell?.dataset.value === undefined ? null : Number(cell.dataset.value);
  }

  function sort(column) {
    const ascending = heads[column].getAttribute("aria-sort") !== "ascending";
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", ascending ? "ascending" : "descending");
    // A model's rows stay under its name.
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => row.dataset.row !== undefined).sort((a, b) => {
        const [x, y] = [value(a, column), value(b, column)];
        // Rows without a value stay at the end.
        if (x === null || y === null) return (x === null) - (y === null);
        return ascending ? x - y : y - x;
      });
      body.append(...rows);
    }
  }

  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => sort(column)));
})();
