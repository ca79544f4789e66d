// The other sections: checkpoints, workers, stores, restore, errors, instances, settings.

import { behind, worst } from "./behind.js";
import { attribute, badge, h, keyed, loadBar, name, number, setLoad, text, TONES } from "./dom.js";
import { Bars } from "./charts.js";
import { ago, bytes, count, cut, dateTime, duration, exact, NONE, percent, rate } from "./format.js";
import { Table } from "./table.js";

const child = (cell, make) => cell.firstChild ?? cell.appendChild(make());
const data = (value, format, of) => (cell, row) => number(child(cell, () => h("data", {})), of(row), format(of(row)));
const numeric = (id, label, format, of, title) => ({ id, label, numeric: true, value: of, show: data(id, format, of), title });
const state = (of) => ({ id: "state", label: "State", value: of, show: (cell, row) => badge(child(cell, () => h("span", {})), of(row), TONES[of(row)] ?? "calm") });

export class Checkpoints {
  constructor(root) {
    this.bars = new Bars(root);
    this.table = new Table({
      label: "Checkpoints",
      key: (row) => `${row.at} ${row.worker}`,
      sort: ["at", true],
      empty: "No checkpoint yet.",
      mark: (row) => (row.error ? "failed" : ""),
      columns: [
        { id: "at", label: "When", value: (row) => row.at, show: (cell, row) => text(cell, dateTime(row.at).slice(11)) },
        { id: "worker", label: "Worker", value: (row) => row.worker },
        numeric("seconds", "Duration", duration, (row) => row.seconds),
        numeric("tasks", "Tasks", exact, (row) => row.tasks),
        numeric("records", "Records", exact, (row) => row.records),
        { id: "error", label: "Result", class: "why", value: (row) => row.error ?? "committed" },
      ],
    });
    root.append(this.table.element);
  }

  update(status) {
    this.bars.update(status.checkpoints);
    this.table.update(status.checkpoints.slice(-200));
  }
}

export class Snapshots {
  constructor(section) {
    this.section = section;
    this.table = new Table({
      label: "Snapshots",
      key: (row) => row.id,
      sort: ["at", true],
      empty: "No snapshot yet.",
      mark: (row) => (row.error ? "failed" : ""),
      columns: [
        { id: "at", label: "Begun", value: (row) => row.at, show: (cell, row) => text(cell, dateTime(row.at).slice(11)) },
        numeric("age", "Age", duration, (row) => row.age),
        { id: "task", label: "Task", class: "name", value: (row) => row.task, show: (cell, row) => name(cell, row.task) },
        numeric("number", "Number", exact, (row) => row.number),
        numeric("size", "Size", bytes, (row) => (row.error ? null : row.size)),
        numeric("uploaded", "Stored", bytes, (row) => (row.error ? null : row.uploaded), "the rest was there from snapshots before"),
        numeric("seconds", "Duration", duration, (row) => row.seconds),
        { id: "error", label: "Result", class: "why", value: (row) => row.error ?? "complete" },
      ],
    });
    section.querySelector(".body").append(this.table.element);
  }

  update(status) {
    this.section.hidden = status.snapshots.length === 0;
    this.table.update(status.snapshots.map((row) => ({ ...row, age: Math.max(0, status.at - row.at) })));
  }
}

/** Those that were asked for on this page, or on another of this instance. `say` is told how each ends. */
export class Savepoints {
  constructor(section, say) {
    Object.assign(this, { section, say, making: new Set() });
    const result = (row) => row.error ?? (row.state === "made" ? "complete" : (row.steps.at(-1) ?? "it is asked for"));
    this.table = new Table({
      label: "Savepoints",
      key: (row) => `${row.at} ${row.name}`,
      sort: ["at", true],
      empty: "None was asked for here.",
      mark: (row) => (row.state === "failed" ? "failed" : ""),
      columns: [
        { id: "at", label: "Begun", value: (row) => row.at, show: (cell, row) => text(cell, dateTime(row.at).slice(11)) },
        { id: "name", label: "Savepoint", class: "name", value: (row) => row.name, show: (cell, row) => name(cell, row.name) },
        state((row) => row.state),
        numeric("seconds", "Duration", duration, (row) => row.seconds),
        numeric("tasks", "Tasks", exact, (row) => (row.state === "made" ? row.tasks : null)),
        numeric("size", "Size", bytes, (row) => (row.state === "made" ? row.size : null)),
        { id: "place", label: "In", class: "owner", value: (row) => row.place, show: (cell, row) => name(cell, row.place) },
        { id: "step", label: "Step, result", class: "why", value: result },
      ],
    });
    section.querySelector(".body").append(this.table.element);
  }

  update(status) {
    this.section.hidden = status.savepoints.length === 0;
    this.table.update(status.savepoints);
    for (const one of status.savepoints) {
      const id = `${one.at} ${one.name}`;
      if (one.state === "making") this.making.add(id);
      else if (this.making.delete(id)) this.say(one.error ? `There is no savepoint ${one.name}: ${one.error}` : `Savepoint ${one.name} is there.`);
    }
  }
}

/** Where the number of workers follows the load: how many, of how many, and why. */
function scaling(one) {
  const load = one.share === null ? "not judged yet" : `${percent(one.share)} busy or backpressured`;
  const change = one.reason === null ? "" : `; ${one.at === null ? "" : `${dateTime(one.at).slice(11)} `}${one.reason}`;
  return `${one.group}: ${one.workers} of ${one.least} to ${one.most} workers, ${load}${change}`;
}

/** What holds a worker up, or what ended its last process. */
function noteOf({ why, last_error, restart_in }) {
  const words = [why, last_error, restart_in === null ? null : `again in ${duration(restart_in)}`].filter(Boolean);
  return words.length ? words.join(", ") : null;
}

export class Workers {
  constructor(root) {
    this.table = new Table({
      label: "Workers",
      key: (row) => row.name,
      sort: ["name"],
      empty: "No worker processes.",
      mark: (row) => (row.state === "running" && row.why === null ? "" : "failed"),
      columns: [
        { id: "name", label: "Worker", value: (row) => row.name },
        { id: "group", label: "Group", value: (row) => row.group, title: "isolation group" },
        state((row) => row.state),
        numeric("rate", "Records/s", rate, (row) => row.rate),
        { id: "load", label: "Load", value: (row) => row.busy + row.backpressured, title: "busy, backpressured",
          show: (cell, row) => setLoad(child(cell, loadBar), row.busy, row.backpressured) },
        numeric("tasks", "Tasks", exact, (row) => row.tasks),
        numeric("cpu", "CPU", percent, (row) => row.cpu, "of one core"),
        numeric("memory", "Memory", bytes, (row) => row.memory, "resident"),
        numeric("budget", "Budget", bytes, (row) => row.budget, "what it may take: the setting memory"),
        numeric("restarts", "Restarts", exact, (row) => row.restarts),
        { id: "note", label: "Held up by, last end", class: "why", value: noteOf, show: (cell, row) => text(cell, noteOf(row)) },
      ],
    });
    this.scaling = h("p", { class: "none", id: "scaling" });
    root.append(this.table.element, this.scaling);
  }

  update(status) {
    this.table.update(status.workers);
    text(this.scaling, status.scaling.map(scaling).join(" · "));
    this.scaling.hidden = status.scaling.length === 0;
  }
}

export class Stores {
  constructor(root) {
    const ratio = (row) => (row.hits + row.misses ? row.hits / (row.hits + row.misses) : null);
    this.table = new Table({
      label: "Stores",
      key: (row) => `${row.part} ${row.name}`,
      sort: ["size", true],
      empty: "This app keeps no state.",
      columns: [
        { id: "name", label: "Store", value: (row) => row.name, class: "name", show: (cell, row) => name(cell, row.name) },
        { id: "part", label: "Sub-topology", value: (row) => row.part, class: "owner", show: (cell, row) => name(cell, row.part) },
        { id: "entries", label: "Entries", numeric: true, value: (row) => row.entries, title: "~: estimated, as of the last flush",
          show: (cell, row) => number(child(cell, () => h("data", {})), row.entries, row.estimated ? `~${count(row.entries)}` : exact(row.entries)) },
        numeric("size", "Size", (size) => `~${bytes(size)}`, (row) => row.size, "estimated"),
        numeric("growth", "Growth/s", growth, (row) => row.growth, "bytes a second, over the last five minutes"),
        numeric("hits", "Cache hits", percent, ratio, "keys of records that needed no fetch"),
        { id: "largest", label: "Largest entries written", class: "largest", value: (row) => row.largest[0]?.[1] ?? null,
          show: (cell, row) => showKeys(cell, row.largest, bytes) },
        { id: "hottest", label: "Keys used most", class: "largest", value: (row) => row.hottest[0]?.[1] ?? null, title: "share of the records, sampled",
          show: (cell, row) => showKeys(cell, row.hottest, percent) },
        numeric("tasks", "Tasks", exact, (row) => row.tasks.length),
        { id: "fullest", label: "Largest task", numeric: true, value: (row) => fullest(row)?.[2] ?? null, title: "its partition and size",
          show: (cell, row) => showTask(cell, fullest(row)) },
      ],
    });
    root.append(this.table.element);
  }

  update(status) {
    this.table.update(status.stores);
  }
}

const growth = (value) => (value === null ? NONE : `${value > 0 ? "+" : ""}${bytes(value)}`);

/** The task with most bytes of a store: [partition, entries, bytes]. */
const fullest = (row) => row.tasks.reduce((most, one) => (one[2] > (most?.[2] ?? -1) ? one : most), null);

function showTask(cell, task) {
  number(child(cell, () => h("data", {})), task?.[2], task === null ? NONE : `${task[0]}: ~${bytes(task[2])}`);
  attribute(cell, "title", task === null ? null : `about ${exact(task[1])} entries`);
}

/** The first of some keys, the others behind a disclosure. Keys are the user's data: shown as text, whatever is in them. */
function showKeys(cell, keys, format) {
  const words = ([key, of]) => `${key} (${format(of)})`;
  if (keys.length < 2) {
    cell.firstElementChild?.remove();
    text(cell, keys.map(words).join("") || NONE);
    return;
  }
  if (!cell.firstElementChild) cell.replaceChildren(h("details", {}, h("summary", {}), h("ol", {})));
  const [summary, list] = cell.firstElementChild.children;
  text(summary, `${words(keys[0])}, ${keys.length - 1} more`);
  const items = keys.map((one, at) => ({ at, words: words(one) }));
  keyed(list, items, (one) => one.at, () => h("li", {}), (node, one) => text(node, one.words));
}

export class Restore {
  constructor(section) {
    this.section = section;
    this.bar = h("progress", { max: 1, "aria-label": "Restored" });
    this.said = h("p", { id: "restore" });
    this.stages = h("ul", { class: "stages" });
    this.restoring = h("div", {}, this.bar, this.said, h("details", {}, h("summary", {}, "Tasks"), this.stages));
    this.warm = h("p", { id: "warm" });
    this.tables = h("ul", { class: "stages", id: "global-tables" });
    section.querySelector(".body").append(this.restoring, this.warm, this.tables);
  }

  update({ restore, tables }) {
    this.section.hidden = !restore.tasks && !restore.warm && !tables.length;
    const read = ({ why, there, lag }) => `${exact(lag)} records behind${why ? `: ${why}` : there ? "" : ", is read before it begins"}`;
    keyed(this.tables, tables, (one) => `${one.worker} ${one.name}`, () => h("li", {}), (node, one) => {
      text(node, `worker ${one.worker}, global table ${one.name}: ${exact(one.rows)} rows, ${read(one)}`);
    });
    this.restoring.hidden = !restore.tasks;
    this.warm.hidden = !restore.warm;
    text(this.warm, `${restore.warm} ${restore.warm === 1 ? "task" : "tasks"} of other instances kept warm, ${exact(restore.warm_behind)} changelog records behind.`);
    if (!restore.tasks) return;
    const total = restore.restored + restore.remaining;
    if (total) attribute(this.bar, "value", restore.restored / total);
    const left = restore.seconds_left === null ? "" : `, about ${duration(restore.seconds_left)}`;
    const size = restore.bytes_left === null ? "" : ` (${bytes(restore.bytes_left)})`;
    text(this.said, `${restore.tasks} ${restore.tasks === 1 ? "task" : "tasks"}: ${exact(restore.restored)} of ${exact(total)} changelog records replayed, ${exact(restore.remaining)}${size} left${left}.`);
    keyed(this.stages, Object.entries(restore.stages), ([name]) => name, () => h("li", {}), (node, [name, words]) => text(node, `${name}: ${words}`));
  }
}

export class Errors {
  constructor(root) {
    this.none = h("p", { class: "none" }, "No error since the start of this instance.");
    this.list = h("ul", { class: "errors", id: "errors" });
    root.append(this.none, this.list);
  }

  update(status) {
    this.none.hidden = status.errors.length > 0;
    const seen = new Map();
    const items = [...status.errors].sort((a, b) => b.at - a.at).map((one) => {
      const id = `${one.at} ${one.text}`;
      seen.set(id, (seen.get(id) ?? 0) + 1);
      return { id: `${id} ${seen.get(id)}`, one };
    });
    keyed(this.list, items, (item) => item.id, ({ one }) => this.make(one), (node, { one }) => this.fill(node, one, status.at));
  }

  make(error) {
    const line = [h("time", {}), h("span", { class: "text" }), h("span", { class: "muted" })];
    const head = error.trace
      ? h("details", {}, h("summary", {}, ...line), h("pre", { tabindex: 0 }, error.trace))
      : h("div", { class: "plain" }, ...line);
    return h("li", {}, head);
  }

  fill(node, error, now) {
    const [when, words, where] = node.querySelectorAll("time, .text, .muted");
    text(when, ago(error.at, now));
    attribute(when, "title", dateTime(error.at));
    text(words, error.text);
    text(where, [error.worker === null ? null : `worker ${error.worker}`, error.task, error.logger].filter((one) => one !== null && one !== "").join(" · "));
  }
}

/** The address, when it is one a link may lead to: it comes from Kafka, where anybody may have written it. */
function pageOf(url) {
  try {
    const parsed = new URL(url);
    return ["http:", "https:"].includes(parsed.protocol) ? parsed.href : null;
  } catch {
    return null;
  }
}

/** What an instance said is no longer so when it is silent. */
const known = (of) => (row) => (row.state === "silent" ? null : of(row));

export class Instances {
  constructor(root) {
    this.table = new Table({
      label: "Instances",
      key: (row) => row.instance,
      sort: ["instance"],
      empty: "None was heard of yet.",
      mark: (row) => (row.state === "silent" || !row.ready ? "failed" : ""),
      columns: [
        { id: "instance", label: "Instance", class: "name", value: (row) => row.instance, show: (cell, row) => this.name(cell, row) },
        state((row) => row.state),
        { id: "host", label: "Host", class: "owner", value: (row) => row.host, show: (cell, row) => name(cell, row.host) },
        { id: "version", label: "Version", value: (row) => row.version },
        numeric("uptime", "Up", duration, known((row) => row.at - row.started)),
        numeric("workers", "Workers", exact, known((row) => row.workers.length)),
        numeric("tasks", "Tasks", exact, known((row) => row.tasks.length)),
        numeric("rate", "Records/s", rate, known((row) => row.totals.rate_in)),
        numeric("lag", "Lag", exact, known((row) => row.totals.lag)),
        numeric("behind", "Behind", behind, known((row) => worst(row.tasks)?.seconds), "how long the next record has waited, in the task where that is longest"),
        { id: "reasons", label: "Not ready because", class: "why", value: (row) => row.reasons.join("; ") || null },
      ],
    });
    root.append(this.table.element);
  }

  update(instances, own) {
    this.own = own;
    this.table.update(instances);
  }

  name(cell, row) {
    const url = row.instance === this.own ? null : pageOf(row.url);
    const wanted = url ? "A" : "SPAN";
    if (cell.firstChild?.nodeName !== wanted) cell.replaceChildren(url ? h("a", { target: "_blank", rel: "noopener noreferrer" }) : h("span", {}));
    if (url) attribute(cell.firstChild, "href", url);
    text(cell.firstChild, row.instance === this.own ? `${cut(row.instance, 26)} (this one)` : cut(row.instance, 36));
    attribute(cell, "title", row.instance);
  }
}

export class Settings {
  constructor(root) {
    const search = h("input", { type: "search", placeholder: "Setting…", "aria-label": "Filter settings", oninput: () => refilter() });
    const changed = h("input", { type: "checkbox", onchange: () => refilter() });
    this.table = new Table({
      label: "Settings",
      key: (row) => row.name,
      sort: ["name"],
      empty: "No settings.",
      mark: (row) => (row.source === "default" ? "other" : ""),
      columns: [
        { id: "name", label: "Setting", class: "code", value: (row) => row.name },
        { id: "value", label: "Value", class: "code value", value: (row) => row.value },
        { id: "source", label: "From", value: (row) => row.source },
        { id: "doc", label: "Meaning", class: "why", value: (row) => row.doc },
      ],
    });
    const refilter = () =>
      this.table.filter((row) => {
        const fits = `${row.name} ${row.value} ${row.source} ${row.doc}`.toLowerCase().includes(search.value.toLowerCase());
        return fits && (!changed.checked || row.source !== "default");
      });
    root.append(h("div", { class: "tools" }, search, h("label", { class: "inline" }, changed, " changed only")), this.table.element);
  }

  update(settings) {
    this.table.update(settings);
  }
}
