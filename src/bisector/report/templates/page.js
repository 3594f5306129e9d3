"use strict";

const plots = [...document.querySelectorAll(".plot")];
const source = document.getElementById("figures").textContent;
const dark = matchMedia("(prefers-color-scheme: dark)");

// Draws some figures in the colours of the page: "<--ink>" stands for the style property of that name.
function draw(wanted) {
  if (wanted.length === 0) return;
  if (typeof Plotly === "undefined") {
    const script = document.createElement("script");
    script.textContent = document.getElementById("plotly").textContent;
    document.head.append(script);
  }
  const style = getComputedStyle(document.documentElement);
  const resolve = (key, value) =>
    /^<--[a-z]+>$/.test(value) ? style.getPropertyValue(value.slice(1, -1)).trim() : value;
  const { theme, figures } = JSON.parse(source, resolve);
  // On a touch screen a finger on a figure scrolls the page.
  const dragmode = matchMedia("(pointer: fine)").matches ? "zoom" : false;
  for (const { key, data, layout } of figures) {
    if (!wanted.some((plot) => plot.id === key)) continue;
    const themed = { dragmode, ...theme.layout, ...layout };
    for (const axis of ["xaxis", "yaxis"]) themed[axis] = { ...theme.axis, ...layout[axis] };
    Plotly.react(key, data, themed, { displayModeBar: false, responsive: true });
  }
}

const compareTexts = new Intl.Collator(undefined, { numeric: true }).compare;
const plainText = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").replace(/\s+/g, " ").toLowerCase();
const STEP = 100; // rows that become elements at once

// The rows of a table in the order and the choice that a reader asked for. Of many rows the page holds the first
// as elements and all as data; the others become elements when somebody scrolls to them.
class Rows {
  constructor(table) {
    this.table = table;
    this.body = table.tBodies[0];
    this.box = table.closest(".scroll");
    const data = this.box.querySelector("script");
    const elements = [...this.body.rows];
    this.pattern = elements[0];
    if (data === null) {
      this.all = elements.map((element) => ({ element, keys: [...element.cells].map((cell) => cell.dataset.value) }));
    } else {
      this.all = JSON.parse(data.textContent).map((cells, k) => {
        const keys = cells.map((cell) => (typeof cell === "string" ? cell : cell[1] ?? ""));
        return { element: elements[k], cells, keys };
      });
      this.box.addEventListener("scroll", () => {
        if (this.box.scrollTop + 2 * this.box.clientHeight > this.box.scrollHeight) this.show(this.shown + STEP);
      });
    }
    this.most = data === null ? Infinity : STEP;
    this.chosen = this.all;
    this.shown = elements.length;
    this.wanted = "";
    for (const header of table.querySelectorAll("th[data-first]")) {
      header.querySelector("button").addEventListener("click", () => this.sort(header));
    }
    const tools = this.box.closest(".listing")?.querySelector(".tools");
    const search = tools?.querySelector("input[type=search]");
    search?.addEventListener("input", () => {
      this.wanted = plainText(search.value.trim());
      this.choose();
      const count = this.all.length.toLocaleString("en");
      const found = this.wanted ? `${this.chosen.length.toLocaleString("en")} of ${count} rows` : `${count} rows`;
      tools.querySelector("output").textContent = found;
    });
    const columns = tools?.querySelector(".columns");
    columns?.addEventListener("change", () => table.classList.toggle("more", columns.checked));
  }

  // The better end first, the other end on the next click. Cells without a value stay at the bottom.
  sort(header) {
    const column = header.cellIndex;
    const first = header.dataset.first;
    const other = first === "ascending" ? "descending" : "ascending";
    const order = header.getAttribute("aria-sort") === first ? other : first;
    const sign = order === "ascending" ? 1 : -1;
    const compare = (x, y) => {
      const a = x.keys[column];
      const b = y.keys[column];
      if (a === "" || b === "") return (a === "") - (b === "");
      return sign * (header.dataset.text === undefined ? a - b : compareTexts(a, b));
    };
    this.all.sort(compare);
    for (const cell of this.table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", order);
    this.choose();
  }

  choose() {
    const name = (row) => (row.name ??= plainText(row.keys[0]));
    this.chosen = this.wanted ? this.all.filter((row) => name(row).includes(this.wanted)) : this.all;
    this.shown = 0;
    this.body.replaceChildren();
    this.show(this.most);
    this.box.scrollTop = 0;
  }

  show(count) {
    const rows = this.chosen.slice(this.shown, count);
    this.body.append(...rows.map((row) => (row.element ??= this.make(row.cells))));
    this.shown += rows.length;
  }

  make(cells) {
    const row = this.pattern.cloneNode(true);
    [...row.cells].forEach((cell, k) => {
      const [text, key, spread, title] = typeof cells[k] === "string" ? [cells[k], cells[k]] : cells[k];
      cell.replaceChildren(text);
      cell.dataset.value = key ?? "";
      cell.removeAttribute("title");
      if (title) cell.title = title;
      if (spread) {
        const small = document.createElement("span");
        small.className = "spread";
        small.textContent = spread;
        cell.append(" ", small);
      }
    });
    return row;
  }
}

const tables = [...document.querySelectorAll("table:has(th[data-first])")].map((table) => new Rows(table));

// On paper every figure has the width and the colours of paper; afterwards those of the screen.
function print(printing) {
  document.documentElement.classList.toggle("printing", printing);
  for (const rows of tables) if (printing && rows.shown > rows.most) rows.choose();
  draw(plots);
  for (const plot of plots) Plotly.Plots.resize(plot);
}
addEventListener("beforeprint", () => print(true));
addEventListener("afterprint", () => print(false));
dark.addEventListener("change", () => draw(plots.filter((plot) => plot.matches(".js-plotly-plot"))));

// A figure is drawn when a reader comes near it: to read and run plotly's script takes longer than all else together,
// and tables can be used meanwhile. The places of figures are kept free.
const near = new IntersectionObserver(
  (entries) => {
    for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
      near.unobserve(target);
      setTimeout(() => draw([target]));
    }
  },
  { rootMargin: "50%" },
);
addEventListener("DOMContentLoaded", () => plots.forEach((plot) => near.observe(plot)));
