"use strict";
const nonce = document.currentScript.nonce;
const FIRST = 200; // rows
const coarse = matchMedia("(pointer: coarse)").matches;

async function unpacked(id) {
  const packed = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

// -- charts: each script of class "figure" is drawn where its data-for says ------------------------------------------

async function loadPlotly() {
  const script = document.createElement("script");
  script.nonce = nonce;
  script.textContent = await unpacked("plotly");
  document.head.append(script);
}

function draw() {
  const style = getComputedStyle(document.documentElement);
  const colour = (key, value) => {
    const named = typeof value === "string" && /^var\((--[a-z0-9]+)\)$/.exec(value);
    return named ? style.getPropertyValue(named[1]).trim() : value;
  };
  for (const data of document.querySelectorAll("script.figure")) {
    const figure = JSON.parse(data.textContent, colour);
    // On a touch screen a finger scrolls the page; elsewhere dragging zooms.
    figure.layout.dragmode = coarse ? false : "zoom";
    Plotly.react(data.dataset.for, figure.data, figure.layout, { responsive: true, displayModeBar: false });
  }
}

async function charts() {
  const places = document.querySelectorAll(".chart");
  try {
    await loadPlotly();
  } catch {
    for (const place of places) place.textContent = "This browser cannot unpack the chart; the tables have its numbers.";
    return;
  }
  for (const place of places) place.replaceChildren();
  draw();
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", draw);
  document.documentElement.dataset.drawn = "";
}

// -- tables: a heading sorts, a text and a state filter ---------------------------------------------------------------

function keysOf(rows, column) {
  const cells = rows.map((row) => row.cells[column]);
  const texts = cells.map((cell) => cell.textContent.trim());
  return column === 0 ? texts : cells.map((cell) => ("v" in cell.dataset ? Number(cell.dataset.v) : null));
}

function sorted(rows, column, descending) {
  const keys = new Map(keysOf(rows, column).map((key, at) => [rows[at], key]));
  const sign = descending ? -1 : 1;
  return [...rows].sort((one, other) => {
    const [a, b] = [keys.get(one), keys.get(other)];
    if (a === null || b === null) return (a === null) - (b === null); // what has no value comes last
    return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
  });
}

function sortable(table, changed) {
  const headings = [...table.tHead.rows[0].cells];
  for (const [column, heading] of headings.entries()) {
    const button = heading.querySelector("button");
    button.addEventListener("click", () => {
      const first = "descending" in button.dataset ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = heading.ariaSort === first ? other : first;
      for (const one of headings) one.ariaSort = "none";
      heading.ariaSort = order;
      const body = table.tBodies[0];
      body.replaceChildren(...sorted([...body.rows], column, order === "descending"));
      changed();
    });
  }
}

// Of the rows that are found the first ones are shown: a browser takes seconds to lay out thousands.
function filtered(table) {
  const control = (kind) => document.querySelector(`[data-${kind}="${table.id}"]`);
  const [text, state, count, more] = ["filters", "states", "counts", "more"].map(control);
  const said = new Map([...table.tBodies[0].rows].map((row) => [row, row.textContent.toLowerCase()]));
  let most = FIRST;
  const apply = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const row of table.tBodies[0].rows) {
      const states = row.dataset.states.split(" ");
      const fits = words.every((word) => said.get(row).includes(word)) && (!state.value || states.includes(state.value));
      found += fits;
      row.hidden = !fits || found > most;
    }
    count.textContent = found > most ? `${found} found, the first ${most} shown` : `${found} found`;
    more.hidden = found <= most;
  };
  const again = () => {
    most = FIRST;
    apply();
  };
  for (const one of [text, state]) one.addEventListener("input", again);
  more.addEventListener("click", () => {
    most = Infinity;
    apply();
    table.closest(".box").focus();
  });
  apply(); // a browser may have kept what was typed before
  return again;
}

// -- the timing sessions of any file ----------------------------------------------------------------------------------

async function sessions(table, choice) {
  const { rows, files } = JSON.parse(await unpacked("sessions-data"));
  const show = () => {
    const lines = rows[files[choice.value]].map((texts) => {
      const line = document.createElement("tr");
      for (const text of texts) {
        const cell = line.insertCell();
        cell.className = "n";
        cell.textContent = text;
      }
      return line;
    });
    table.tBodies[0].replaceChildren(...lines);
  };
  choice.addEventListener("input", show);
  document.addEventListener("click", (event) => {
    const id = event.target.dataset?.sessions;
    if (id === undefined) return;
    choice.value = id;
    show();
    choice.focus();
    choice.scrollIntoView({ block: "center" });
  });
  show();
}

for (const table of document.querySelectorAll("table.sortable")) sortable(table, filtered(table));
const choice = document.querySelector("[data-shows]");
if (choice) sessions(document.getElementById(choice.dataset.shows), choice);
charts();
