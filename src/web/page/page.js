"use strict";
// What a node shows of itself, read from its own HTTP interface. Nothing is changed here, and every text is put in as text.

const EVERY_MS = 2000, EVENTS = 50, METRICS = 150, POINTS = 120;
const at = (id) => document.getElementById(id);
const seen = { since: null, revision: null, series: new Map() };

/** An element with attributes and children; a child that is no element is text. */
function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value) made.setAttribute(name, value);
  made.append(...children.map((child) => (child instanceof Node ? child : String(child ?? ""))));
  return made;
}

const row = (...cells) => el("tr", {}, ...cells.map((cell) => (cell instanceof HTMLTableCellElement ? cell : el("td", {}, cell))));
const fill = (id, rows) => at(id).tBodies[0].replaceChildren(...rows);
const number = (value) => el("td", { class: "n" }, value);

function span(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  let left = Math.floor(ms / 1000), words = [];
  for (const [unit, size] of units) {
    if (left >= size && words.length < 2) words.push(`${Math.floor(left / size)} ${unit}`);
    left %= size;
  }
  return words.join(" ");
}

/** A time of day here, with the date where it is another day's. */
function clock(time) {
  const when = new Date(time), two = (part) => String(part).padStart(2, "0");
  const date = `${when.getFullYear()}-${two(when.getMonth() + 1)}-${two(when.getDate())} `;
  const day = when.toDateString() === new Date().toDateString() ? "" : date;
  return `${day}${two(when.getHours())}:${two(when.getMinutes())}:${two(when.getSeconds())}.${String(when.getMilliseconds()).padStart(3, "0")}`;
}

/** Asks the node. What it refuses is an Error with its words; where it does not answer, fetch's own error goes on. */
async function ask(path, as = "json", headers = {}) {
  const answer = await fetch(path, { cache: "no-store", headers, signal: AbortSignal.timeout(10_000) });
  if (answer.ok) return answer[as]();
  const told = (await answer.json()).error;
  throw Object.assign(new Error(told.message), { told });
}

async function status() {
  const node = await ask("/api/v1/status");
  document.title = `${node.name}: ${node.health}`;
  at("name").textContent = node.name;
  at("health").replaceChildren(
    el("span", { class: node.health === "healthy" ? "good" : "bad" }, node.health),
    ` · node ${node.node} · up ${span(node.uptime_ms)} · ${node.events.count.toLocaleString()} events · underpin ${node.underpin}`,
    node.ready ? "" : el("span", { class: "bad" }, " · takes no work"),
  );
  at("reasons").replaceChildren(...node.reasons.map((one) => el("li", { class: "bad" }, `${one.part}: ${one.reason} (since ${clock(one.since)})`)));
  return node;
}

async function tree() {
  const rows = [];
  const walk = (child, depth) => {
    const name = el("td", { class: "name" }, "\u00a0\u00a0".repeat(depth) + child.id);
    const state = child.stuck ? "stuck" : child.state;
    const bad = ["stuck", "restarting", "leaked"].includes(state);
    rows.push(row(
      name, child.kind, el("td", { class: bad && "bad" }, state), number(child.uptime_ms == null ? "" : span(child.uptime_ms)),
      number(child.restarts), number(child.handled), number(child.admitted), child.last_exit,
    ));
    for (const one of child.children ?? []) walk(one, depth + 1);
    if (child.unlisted) rows.push(row(el("td", { class: "dim", colspan: "8" }, `${"\u00a0\u00a0".repeat(depth + 1)}… and ${child.unlisted} more`)));
  };
  walk((await ask("/api/v1/tree")).tree, 0);
  fill("tree", rows);
}

async function events() {
  const wanted = at("query").value.trim();
  const given = new URLSearchParams(wanted ? { q: wanted } : {});
  if (!/(^|\s)order=/.test(wanted)) given.set("order", "-time");
  if (!/(^|\s)limit=/.test(wanted)) given.set("limit", EVENTS);
  const trouble = at("trouble");
  let found;
  try {
    found = await ask(`/api/v1/events?${given}`, "text");
    trouble.hidden = true;
  } catch (error) {
    if (!error.told) throw error;
    trouble.textContent = [error.message, error.told.pointer].filter(Boolean).join("\n");
    trouble.hidden = false;
    at("no-events").hidden = true;
    fill("events", []);
    return;
  }
  if (at("query").value.trim() !== wanted) return;
  const rows = found.split("\n").filter(Boolean).map((line) => {
    const event = JSON.parse(line);
    const all = event.correlation && el("a", { href: "#", title: "all of this correlation" }, event.correlation);
    all?.addEventListener("click", (click) => {
      click.preventDefault();
      search(`correlation=${JSON.stringify(event.correlation)} order=time`);
    });
    const time = el("td", { class: "time", title: event.time }, clock(event.time));
    return row(time, el("td", { class: "name", title: `id ${event.id}` }, event.kind), event.source, all ?? "", event.data == null ? "" : JSON.stringify(event.data));
  });
  fill("events", rows);
  at("no-events").hidden = rows.length > 0;
}

function search(words) {
  at("query").value = words;
  events().catch(silent);
}

/** Paths and values of a table of settings. */
function* flat(value, path = "") {
  const table = value !== null && typeof value === "object" && !Array.isArray(value) ? Object.entries(value) : [];
  if (path && table.length === 0) yield [path, value];
  for (const [name, one] of table) yield* flat(one, path ? `${path}.${name}` : name);
}

async function settings(revision) {
  if (revision === seen.revision) return;
  const [all, history] = await Promise.all([ask("/api/v1/config"), ask("/api/v1/config/history?limit=20")]);
  const rows = [];
  for (const [path, value] of flat(all.value)) {
    const origin = el("a", { href: "#" }, "show");
    const cell = el("td", { class: "dim" }, origin);
    origin.addEventListener("click", async (click) => {
      click.preventDefault();
      const why = await ask(`/api/v1/config/explain?path=${encodeURIComponent(path)}`).catch((error) => ({ origin: error.message }));
      cell.textContent = [why.origin, why.description].filter(Boolean).join("; ");
    });
    rows.push(row(path, JSON.stringify(value), cell));
  }
  fill("settings", rows);
  const changed = (one) => `${one.path}: ${JSON.stringify(one.before) ?? "(none)"} → ${JSON.stringify(one.after) ?? "(none)"}`;
  fill("history", history.history.map((one) => row(number(one.revision), el("td", { class: "time" }, clock(one.at)), one.by, one.changes.map(changed).join(", "), one.why)));
  at("no-history").hidden = history.history.length > 0;
  seen.revision = revision;
}

/** The last values of a series as a line. */
function line(values) {
  const space = "http://www.w3.org/2000/svg", svg = document.createElementNS(space, "svg"), path = document.createElementNS(space, "polyline");
  const low = Math.min(...values), high = Math.max(...values), height = high - low || 1;
  path.setAttribute("points", values.map((value, x) => `${(x * 100) / (POINTS - 1)},${high === low ? 9 : 17 - (16 * (value - low)) / height}`).join(" "));
  svg.setAttribute("viewBox", "0 0 100 18");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.append(path);
  return svg;
}

async function metrics() {
  const text = await ask("/metrics", "text", { accept: "text/plain" });
  const now = new Map();
  for (const one of text.split("\n")) {
    const parts = /^([a-zA-Z_:][\w:]*(?:\{.*\})?) (\S+)/.exec(one);
    // Of a distribution, its count and sum say enough here.
    if (parts && !/_bucket\{/.test(parts[1])) now.set(parts[1], Number(parts[2]));
  }
  for (const name of seen.series.keys()) if (!now.has(name)) seen.series.delete(name);
  for (const [name, value] of now) {
    const values = seen.series.get(name) ?? [];
    values.push(value);
    seen.series.set(name, values.slice(-POINTS));
  }
  draw();
}

function draw() {
  const part = at("prefix").value.trim();
  const wanted = [...seen.series].filter(([name]) => name.includes(part));
  fill("metrics", wanted.slice(0, METRICS).map(([name, values]) => row(name, number(Number(values.at(-1).toPrecision(6)).toLocaleString()), line(values))));
  at("more-metrics").hidden = wanted.length <= METRICS;
  at("more-metrics").textContent = `… and ${wanted.length - METRICS} more; narrow the names down.`;
}

async function cluster() {
  try {
    const members = (await ask("/api/v1/cluster")).members ?? [];
    fill("nodes", members.map((one) => row(one.name, one.kind, el("td", { class: one.state === "alive" ? "good" : "bad" }, one.state), one.address ?? "")));
    at("cluster").hidden = false;
  } catch (error) {
    // A node that is in no cluster says so.
    if (!error.told) throw error;
    at("cluster").hidden = true;
  }
}

const silent = () => {};

async function look() {
  try {
    const node = await status();
    const parts = await Promise.allSettled([tree(), events(), settings(node.config.revision), metrics(), cluster()]);
    document.body.classList.remove("gone");
    seen.since = null;
    const failed = parts.find((part) => part.status === "rejected");
    if (failed) at("reasons").append(el("li", { class: "bad" }, `this page could not be drawn whole: ${failed.reason.message}`));
  } catch (error) {
    seen.since ??= new Date();
    // A node that is started anew may count its revisions anew.
    seen.revision = null;
    document.body.classList.add("gone");
    document.title = "no answer";
    at("health").replaceChildren(el("span", { class: "bad" }, `the node does not answer since ${clock(seen.since)}; what stands below is from before`));
  }
}

async function keepLooking() {
  if (!document.hidden) await look();
  setTimeout(keepLooking, EVERY_MS);
}

at("search").addEventListener("submit", (event) => { event.preventDefault(); events().catch(silent); });
at("search").addEventListener("reset", () => search(""));
at("prefix").addEventListener("input", draw);
keepLooking();
