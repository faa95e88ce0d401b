"use strict";
const nonce = document.currentScript.nonce;
const FIRST = 200; // rows
const coarse = matchMedia("(pointer: coarse)").matches;

async function unpacked(script) {
  const packed = Uint8Array.from(atob(script.textContent), (c) => c.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

async function dataOf(id) {
  return JSON.parse(await unpacked(document.getElementById(id)));
}

function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text; // names are somebody else's text
  if (className) made.className = className;
  return made;
}

// -- charts: each script of class "figure" is drawn where its data-for says ------------------------------------------

async function loadPlotly() {
  const script = document.createElement("script");
  script.nonce = nonce;
  script.textContent = await unpacked(document.getElementById("plotly"));
  document.head.append(script);
}

let figures = []; // place and JSON of each

function draw() {
  const style = getComputedStyle(document.documentElement);
  const colour = (key, value) => {
    const named = typeof value === "string" && /^var\((--[a-z0-9]+)\)$/.exec(value);
    return named ? style.getPropertyValue(named[1]).trim() : value;
  };
  for (const [place, json] of figures) {
    const figure = JSON.parse(json, colour);
    // On a touch screen a finger scrolls the page; elsewhere dragging zooms.
    figure.layout.dragmode = coarse ? false : "zoom";
    Plotly.react(place, figure.data, figure.layout, { responsive: true, displayModeBar: false });
  }
}

async function charts() {
  const places = document.querySelectorAll(".chart");
  try {
    await loadPlotly();
    const scripts = [...document.querySelectorAll("script.figure")];
    figures = await Promise.all(scripts.map(async (one) => [one.dataset.for, await unpacked(one)]));
  } catch {
    for (const place of places) place.textContent = "This browser cannot unpack the chart; the tables have its numbers.";
    return;
  }
  for (const place of places) place.replaceChildren();
  draw();
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", draw);
  document.documentElement.dataset.drawn = "";
}

// -- every candidate: a heading sorts, a text and a state filter ------------------------------------------------------

function line(data, at) {
  const made = document.createElement("tr");
  const recipe = made.insertCell();
  recipe.className = "recipe";
  recipe.append(element("span", data.name[at], "name"), " ");
  for (const tag of data.tags[at]) recipe.append(element("span", tag, `tag ${tag}`));
  if (data.steps[at].length) recipe.append(element("small", data.steps[at].join("; ")));
  if (data.reason[at]) recipe.append(element("small", data.reason[at], "reason"));
  if (data.id[at]) {
    const named = element("small", data.id[at]);
    for (const [text, address] of data.links[at]) {
      const link = element("a", text);
      link.href = address;
      named.append(" · ", link);
    }
    if (data.sessions[at]) {
      const [aside, button] = [element("span", " · ", "aside"), element("button", "sessions", "link")];
      button.type = "button";
      button.dataset.sessions = data.sessions[at];
      aside.append(button);
      named.append(aside);
    }
    recipe.append(named);
  }
  for (const cells of data.cells) {
    const cell = made.insertCell();
    cell.textContent = cells.text[at];
    if (cells.note[at]) cell.append(element("small", cells.note[at]));
  }
  return made;
}

function sorted(order, keys, descending) {
  const sign = descending ? -1 : 1;
  const compare = new Intl.Collator().compare;
  return [...order].sort((one, other) => {
    const [a, b] = [keys[one], keys[other]];
    if (a === null || b === null) return (a === null) - (b === null); // what has no value comes last
    return sign * (typeof a === "string" ? compare(a, b) : a - b);
  });
}

// Of the rows that are found the first ones are made: a browser takes seconds to lay out thousands.
function everyCandidate(table, data) {
  const control = (kind) => document.querySelector(`[data-${kind}="${table.id}"]`);
  const [text, state, count, more] = ["filters", "states", "counts", "more"].map(control);
  let [order, most] = [data.name.map((_, at) => at), FIRST];
  const words = (at) => [data.name, data.tags, data.steps, data.reason, data.id].map((of) => of[at]).flat();
  const said = order.map((at) => [...words(at), ...data.cells.map((of) => of.text[at])].join(" ").toLowerCase());
  const show = () => {
    const wanted = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = order.filter(
      (at) => wanted.every((word) => said[at].includes(word)) && (!state.value || data.states[at].includes(state.value)),
    );
    table.tBodies[0].replaceChildren(...found.slice(0, most).map((at) => line(data, at)));
    count.textContent = found.length > most ? `${found.length} found, the first ${most} shown` : `${found.length} found`;
    more.hidden = found.length <= most;
  };
  const again = () => {
    most = FIRST;
    show();
  };
  for (const one of [text, state]) one.addEventListener("input", again);
  more.addEventListener("click", () => {
    most = Infinity;
    show();
    table.closest(".box").focus();
  });
  const headings = [...table.tHead.rows[0].cells];
  for (const [column, heading] of headings.entries()) {
    const button = heading.querySelector("button");
    button.addEventListener("click", () => {
      const first = "descending" in button.dataset ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const way = heading.ariaSort === first ? other : first;
      for (const one of headings) one.ariaSort = "none";
      heading.ariaSort = way;
      order = sorted(order, column === 0 ? data.name : data.cells[column - 1].sort, way === "descending");
      again();
    });
  }
  show(); // a browser may have kept what was typed before
}

// -- the timing sessions of any file ----------------------------------------------------------------------------------

const [HIGH, STEP, SLOWEST] = [28, 4, 2]; // of a drawing, of a block in it; times its fastest, above which it is cut off

// A session's blocks in order: a dot for each block of the file, a line for those of the reference around it.
function drawn({ own, reference, quiet }) {
  const made = (name, attributes) => {
    const one = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
    return one;
  };
  const y = (percent) => HIGH - 3 - ((Math.min(percent, 100 * SLOWEST) - 100) / (100 * (SLOWEST - 1))) * (HIGH - 6);
  const width = STEP * (reference.length + 1);
  const svg = made("svg", { width, height: HIGH, viewBox: `0 0 ${width} ${HIGH}`, class: "blocks", role: "img" });
  const points = reference.map((percent, at) => `${STEP * (at + 0.5)},${y(percent).toFixed(1)}`).join(" ");
  svg.append(made("polyline", { points, class: "reference" }));
  for (const [at, percent] of own.entries()) {
    const kind = quiet[at] === "1" ? "quiet" : "busy";
    svg.append(made("circle", { cx: STEP * (at + 1), cy: y(percent).toFixed(1), r: 1.6, class: kind }));
  }
  svg.setAttribute("aria-label", `${own.length} blocks, of which ${[...quiet].filter((one) => one === "1").length} quiet`);
  return svg;
}

function sessions(table, choice, data, candidates) {
  for (const [at, id] of candidates.sessions.entries()) {
    if (!id) continue;
    const option = element("option", `${id} · ${candidates.name[at]}`);
    option.value = id;
    option.selected = id === choice.dataset.first;
    choice.append(option);
  }
  const show = () => {
    const of = data.files[choice.value];
    const lines = data.rows[of].map((texts, number) => {
      const row = document.createElement("tr");
      for (const text of texts) row.append(element("td", text, "n"));
      if (data.blocks[of]?.[number]) row.cells[data.drawn_at].append(drawn(data.blocks[of][number]));
      return row;
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

async function tables() {
  const table = document.getElementById("candidates");
  if (!table) return;
  const choice = document.querySelector("[data-shows]");
  try {
    const candidates = await dataOf("candidates-data");
    everyCandidate(table, candidates);
    if (choice) {
      sessions(document.getElementById(choice.dataset.shows), choice, await dataOf("sessions-data"), candidates);
    }
  } catch (error) {
    table.tBodies[0].replaceChildren();
    table.tBodies[0].insertRow().insertCell().textContent = "This browser cannot unpack the table.";
    throw error;
  }
}

tables().finally(charts);
