"use strict";

// Draws every figure in the colours of the page: "<--ink>" stands for the style property of that name.
const source = document.getElementById("figures").textContent;
const dark = matchMedia("(prefers-color-scheme: dark)");

function draw() {
  const style = getComputedStyle(document.documentElement);
  const resolve = (key, value) =>
    /^<--[a-z]+>$/.test(value) ? style.getPropertyValue(value.slice(1, -1)).trim() : value;
  const { theme, figures } = JSON.parse(source, resolve);
  // On a touch screen a finger on a figure scrolls the page.
  const dragmode = matchMedia("(pointer: fine)").matches ? "zoom" : false;
  for (const { key, data, layout } of figures) {
    const themed = { dragmode, ...theme.layout, ...layout };
    for (const axis of ["xaxis", "yaxis"]) themed[axis] = { ...theme.axis, ...layout[axis] };
    Plotly.react(key, data, themed, { displayModeBar: false, responsive: true });
  }
}

// Sorts the table by a column: the better end first, the other end on the next click. Cells without a
// value stay at the bottom.
function sortBy(header) {
  const table = header.closest("table");
  const column = header.cellIndex;
  const first = header.dataset.first;
  const other = first === "ascending" ? "descending" : "ascending";
  const order = header.getAttribute("aria-sort") === first ? other : first;
  const sign = order === "ascending" ? 1 : -1;
  const value = (row) => row.cells[column].dataset.value;
  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    return sign * (header.dataset.text === undefined ? a - b : a.localeCompare(b, undefined, { numeric: true }));
  };
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b))));
  for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
}

for (const header of document.querySelectorAll("th[data-first]")) {
  header.querySelector("button").addEventListener("click", () => sortBy(header));
}

// On paper every figure has the width and the colours of paper; afterwards those of the screen.
function print(printing) {
  document.documentElement.classList.toggle("printing", printing);
  draw();
  for (const plot of document.querySelectorAll(".js-plotly-plot")) Plotly.Plots.resize(plot);
}
addEventListener("beforeprint", () => print(true));
addEventListener("afterprint", () => print(false));
dark.addEventListener("change", draw);
draw();
