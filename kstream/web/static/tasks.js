// All tasks of all instances: a square each, and a table of those that fit the filter.

import { behind, behindOf } from "./behind.js";
import { attribute, badge, h, keyed, loadBar, name, number, setLoad, text, TONES } from "./dom.js";
import { ago, count, cut, dateTime, exact, rate } from "./format.js";
import { Table } from "./table.js";

const partOf = (task) => task.name.slice(0, task.name.lastIndexOf("/"));
const numberOf = (task) => Number(task.name.slice(task.name.lastIndexOf("/") + 1));

/** How far a task is in event time: the earliest of its inputs. */
function timeOf(task) {
  if (task.event_time !== null && task.event_time !== undefined) return task.event_time;
  const times = task.inputs.map((one) => one.timestamp).filter((one) => one !== null && one !== undefined);
  return times.length ? Math.min(...times) : null;
}

/** And where the task keeps event time, that of each input: the least of those that are not idle holds the others back. */
function timesOf(task, time) {
  const inputs = task.inputs.filter((one) => one.event_time !== null && one.event_time !== undefined);
  const lines = [time === null ? null : dateTime(time), ...inputs.map((one) => `${one.topic}[${one.partition}] ${dateTime(one.event_time)}${one.idle ? ", idle" : ""}`)];
  return lines.filter(Boolean).join("\n") || null;
}

/** How much waits in each input, and for how long. */
function behindsOf(task) {
  const lines = task.inputs.filter((one) => one.lag).map((one) => `${one.topic}[${one.partition}] ${exact(one.lag)} waiting, ${behind(one.behind)}`);
  return lines.join("\n") || null;
}

/** Of an instance that is silent: those that no other has taken over, and nothing is known of how they are. */
function tasksOf(instance, elsewhere) {
  if (instance.state !== "silent") return instance.tasks;
  const unknown = { state: "silent", rate: 0, busy: 0, backpressured: 0, error: null, inputs: [], why: instance.reasons.join("; ") || null };
  return instance.tasks.filter((task) => !elsewhere.has(task.name)).map((task) => ({ ...task, ...unknown }));
}

const COLOURS = {
  state: { label: "state", of: () => null },
  lag: { label: "lag", of: (task, most) => (most.lag ? task.lag / most.lag : 0) },
  busy: { label: "busy", of: (task) => task.busy },
  back: { label: "backpressured", of: (task) => task.backpressured },
};

export class Tasks {
  constructor(root) {
    this.colour = "state";
    this.search = h("input", { type: "search", placeholder: "Task, instance, reason…", "aria-label": "Filter tasks", oninput: () => this.refilter() });
    this.state = h("select", { "aria-label": "Tasks in state", onchange: () => this.refilter() },
      ...["all states", "not running", "running", "restoring", "suspended", "failed", "silent"].map((one) => h("option", {}, one)));
    const by = h("select", { "aria-label": "Colour of the squares", onchange: () => ((this.colour = by.value), this.paint()) },
      ...Object.entries(COLOURS).map(([id, one]) => h("option", { value: id }, one.label)));
    this.said = h("span", { class: "muted", id: "task-count" });
    this.grid = h("div", { class: "grid", id: "task-grid" });
    this.table = new Table({
      label: "Tasks",
      key: (row) => `${row.instance} ${row.task.name}`,
      sort: ["lag", true],
      empty: "No instance has a task yet.",
      mark: (row) => (row.task.state === "failed" ? "failed" : row.own ? "" : "other"),
      columns: columns(),
    });
    root.append(
      h("div", { class: "tools" }, this.search, this.state, h("label", { class: "inline" }, "squares by ", by), this.said),
      this.grid,
      this.table.element,
    );
  }

  update(instances, own) {
    const elsewhere = new Set(instances.flatMap((one) => (one.state === "silent" ? [] : one.tasks.map((task) => task.name))));
    this.rows = instances.flatMap((one) =>
      tasksOf(one, elsewhere).map((task) => ({ task, instance: one.instance, own: one.instance === own, now: one.at, time: timeOf(task), behind: behindOf(task) })));
    this.table.update(this.rows);
    this.paint();
    this.count();
  }

  refilter() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const state = this.state.value;
    this.table.filter(({ task, instance }) => {
      const all = `${task.name} ${instance} worker ${task.worker} ${task.state} ${task.why ?? ""} ${task.error ?? ""}`.toLowerCase();
      const fits = state === "all states" || (state === "not running" ? task.state !== "running" : task.state === state);
      return fits && words.every((word) => all.includes(word));
    });
    this.count();
  }

  count() {
    const total = this.rows?.length ?? 0;
    const idle = this.rows?.filter((row) => row.task.state !== "running").length ?? 0;
    text(this.said, `${this.table.shown === total ? "" : `${this.table.shown} of `}${total} tasks${idle ? `, ${idle} not running` : ""}`);
  }

  paint() {
    const parts = new Map();
    const most = { lag: 0 };
    for (const row of this.rows ?? []) {
      const name = partOf(row.task);
      if (!parts.has(name)) parts.set(name, []);
      parts.get(name).push(row);
      most.lag = Math.max(most.lag, row.task.lag);
    }
    for (const rows of parts.values()) rows.sort((a, b) => numberOf(a.task) - numberOf(b.task));
    const make = ([name]) => h("div", { class: "part-row" }, h("span", { class: "part-name", title: name }, cut(name, 26)), h("div", { class: "squares" }));
    keyed(this.grid, [...parts].sort(([a], [b]) => a.localeCompare(b)), ([name]) => name, make, (line, [, rows]) => {
      keyed(line.children[1], rows, (row) => `${row.instance} ${row.task.name}`, () => this.square(), (cell, row) => this.fill(cell, row, most));
    });
  }

  square() {
    const cell = h("button", { type: "button", class: "square", onclick: () => {
      this.search.value = this.search.value === cell.task ? "" : cell.task;
      this.refilter();
    } });
    return cell;
  }

  fill(cell, { task, instance }, most) {
    cell.task = `${task.name} ${instance}`;
    const share = COLOURS[this.colour].of(task, most);
    const words = `${task.name}: ${task.state}, lag ${exact(task.lag)}, ${instance} worker ${task.worker}${task.why ? `, ${task.why}` : ""}`;
    attribute(cell, "title", words);
    attribute(cell, "aria-label", words);
    attribute(cell, "class", `square ${share === null ? TONES[task.state] ?? "calm" : `by-${this.colour}`}`);
    cell.style.setProperty("--share", `${Math.round(Math.min(1, share ?? 0) * 100)}%`);
  }
}

function columns() {
  const child = (cell, make) => cell.firstChild ?? cell.appendChild(make());
  return [
    { id: "task", label: "Task", value: (row) => row.task.name, class: "name", show: (cell, row) => name(cell, row.task.name) },
    { id: "owner", label: "Owner", value: (row) => `${row.instance} ${row.task.worker}`, class: "owner",
      show: (cell, row) => name(cell, `${row.instance} · ${row.task.worker}`), title: "instance · worker" },
    { id: "state", label: "State", value: (row) => row.task.state,
      show: (cell, row) => badge(child(cell, () => h("span", {})), row.task.state, TONES[row.task.state] ?? "calm") },
    { id: "lag", label: "Lag", numeric: true, value: (row) => row.task.lag,
      show: (cell, row) => number(child(cell, () => h("data", {})), row.task.lag, exact(row.task.lag)) },
    { id: "behind", label: "Behind", numeric: true, value: (row) => row.behind, title: "how long the next record has waited since it came",
      show: (cell, row) => {
        number(child(cell, () => h("data", {})), row.behind, behind(row.behind));
        attribute(cell, "title", behindsOf(row.task));
      } },
    { id: "rate", label: "Records/s", numeric: true, value: (row) => row.task.rate,
      show: (cell, row) => number(child(cell, () => h("data", {})), row.task.rate, rate(row.task.rate)) },
    { id: "records", label: "Records", numeric: true, value: (row) => row.task.records, title: "processed so far",
      show: (cell, row) => number(child(cell, () => h("data", {})), row.task.records, count(row.task.records)) },
    { id: "time", label: "Event time", numeric: true, value: (row) => row.time, title: "what time it is for windows, timers and joins; else the last record's time in Kafka",
      show: (cell, row) => {
        text(cell, ago(row.time, row.now));
        attribute(cell, "title", timesOf(row.task, row.time));
      } },
    { id: "load", label: "Load", value: (row) => row.task.busy + row.task.backpressured, title: "busy, backpressured",
      show: (cell, row) => setLoad(child(cell, loadBar), row.task.busy, row.task.backpressured) },
    { id: "why", label: "Why it does not move", class: "why", value: (row) => [row.task.error, row.task.why].filter(Boolean).join("; ") || null },
  ];
}
