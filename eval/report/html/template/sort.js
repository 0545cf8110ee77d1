"use strict";
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, table = head.closest("table"), column = head.cellIndex;
    const down = head.getAttribute("aria-sort") !== "descending";
    for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.v;
    const body = table.tBodies[0], rows = [...body.rows];
    rows.sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === undefined || y === undefined) {
        if (x !== y) return x === undefined ? 1 : -1; // numbers first, whatever the order
        const order = a.cells[column].textContent.localeCompare(b.cells[column].textContent);
        return down ? -order : order;
      }
      return down ? y - x : x - y;
    });
    body.append(...rows);
  });
}
