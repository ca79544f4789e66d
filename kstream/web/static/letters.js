// Dead letters: how many there are of what, the latest ones, and one of them whole. Read when somebody looks.

import { attribute, h, keyed, name, number, text } from "./dom.js";
import { ago, dateTime, exact, NONE } from "./format.js";
import { Table } from "./table.js";

const EVERY = 30_000; // ms between two readings while the page is looked at
const child = (cell, make) => cell.firstChild ?? cell.appendChild(make());

export class DeadLetters {
  /** `section` and its `link` in the navigation are hidden where the app has no policy that writes dead letters. */
  constructor(section, link, api) {
    Object.assign(this, { section, link, api, found: null, seen: false, timer: null });
    this.said = h("p", { id: "letters-said", role: "status" });
    this.again = h("button", { type: "button", class: "small", id: "letters-again", onclick: () => this.read() }, "Read again");
    this.counts = h("ul", { id: "letter-counts", class: "counts" });
    this.table = new Table({
      label: "Dead letters",
      key: (row) => `${row.topic}:${row.partition}:${row.offset}`,
      sort: ["time", true],
      empty: "No dead letters.",
      mark: (row) => (row.handled ? "handled" : ""),
      columns: [
        { id: "letter", label: "Letter", value: (row) => `${row.partition}:${row.offset}`, show: (cell, row) => this.link_to(cell, row) },
        { id: "time", label: "Failed", value: (row) => row.time, title: "when its record failed",
          show: (cell, row) => (text(cell, ago(row.time / 1000, this.found.at)), attribute(cell, "title", dateTime(row.time / 1000))) },
        { id: "source", label: "From", class: "owner", value: (row) => row.source, show: (cell, row) => name(cell, row.source ?? NONE) },
        { id: "agent", label: "Step", class: "owner", value: (row) => row.agent, show: (cell, row) => name(cell, row.agent ?? NONE) },
        { id: "phase", label: "Phase", value: (row) => row.phase, show: (cell, row) => text(cell, row.phase ?? NONE) },
        { id: "attempts", label: "Tries", numeric: true, value: (row) => row.attempts, show: (cell, row) => text(cell, exact(row.attempts)) },
        { id: "replays", label: "Replays", numeric: true, value: (row) => row.replays, title: "how often it was replayed before it failed this time",
          show: (cell, row) => number(child(cell, () => h("data", {})), row.replays, exact(row.replays)) },
        { id: "exception", label: "Exception", class: "name", value: (row) => row.exception, show: (cell, row) => name(cell, row.exception ?? NONE) },
        { id: "message", label: "Message", class: "why", value: (row) => row.message },
        { id: "key", label: "Key", class: "code", value: (row) => row.key, show: (cell, row) => name(cell, row.key) },
        { id: "handled", label: "Handled", value: (row) => row.handled, show: (cell, row) => text(cell, row.handled ?? NONE) },
      ],
    });
    section.querySelector(".body").append(h("div", { class: "tools" }, this.said, this.again), this.counts, this.table.element);
    new IntersectionObserver(([entry]) => {
      this.seen = entry.isIntersecting;
      this.wait();
    }).observe(section);
  }

  /** Reads them now, and again from time to time while the section is in sight. */
  async read() {
    this.again.disabled = true;
    try {
      this.show(await this.api.get("/api/dead-letters"));
    } catch (error) {
      text(this.said, error.message);
      attribute(this.said, "class", "failure");
    }
    this.again.disabled = false;
    this.wait();
  }

  wait() {
    clearTimeout(this.timer);
    const due = () => (document.hidden ? this.wait() : this.read());
    if (this.seen && !this.section.hidden) this.timer = setTimeout(due, EVERY);
  }

  show(found) {
    this.found = found;
    this.section.hidden = this.link.hidden = found.topics.length === 0;
    const waiting = found.counts.reduce((sum, one) => sum + one.letters, 0);
    const among = found.more ? `, among the latest ${exact(found.looked)}` : "";
    text(this.said, `${exact(waiting)} not handled${among} · ${dateTime(found.at).slice(11)}`);
    attribute(this.said, "class", "muted");
    keyed(this.counts, found.counts, (one) => `${one.topic} ${one.exception}`, () => h("li", {}, h("data", {}), h("span", {})), (node, one) => {
      number(node.children[0], one.letters, exact(one.letters));
      text(node.children[1], found.topics.length > 1 ? `${one.exception} in ${one.topic}` : one.exception);
    });
    this.table.update(found.letters);
  }

  link_to(cell, row) {
    const button = child(cell, () => h("button", { type: "button", class: "small" }));
    button.onclick = () => this.open(row);
    text(button, `${row.partition}:${row.offset}`);
    attribute(button, "title", `${row.topic} ${row.partition}:${row.offset}`);
  }

  /** One letter in a dialog. All of it comes from others, and is shown as text. */
  async open(row) {
    const facts = h("dl", {});
    const trace = h("pre", { tabindex: 0, hidden: true });
    const failed = h("p", { class: "failure", role: "alert" });
    const dialog = h("dialog", { class: "letter", "aria-labelledby": "letter-title", onclose: () => dialog.remove() },
      h("h2", { id: "letter-title" }, `Dead letter ${row.partition}:${row.offset} of ${row.topic}`), failed, facts, trace,
      h("div", { class: "row end" }, h("button", { type: "button", onclick: () => dialog.close() }, "Close")));
    document.body.append(dialog);
    dialog.showModal();
    try {
      const path = [row.topic, row.partition, row.offset].map(encodeURIComponent).join("/");
      const one = await this.api.get(`/api/dead-letters/${path}`);
      facts.append(...factsOf(one).flatMap(([label, words]) => [h("dt", {}, label), h("dd", {}, words)]));
      text(trace, one.stacktrace);
      trace.hidden = !one.stacktrace;
    } catch (error) {
      text(failed, error.message);
    }
  }
}

function factsOf(one) {
  const { letter } = one;
  const why = (side) => (one.undecodable[side] ? `  (cannot be decoded: ${one.undecodable[side]})` : "");
  const facts = [
    ["Failed", dateTime(letter.time / 1000)], ["From", letter.source], ["Task", one.task], ["Step", letter.agent], ["Phase", letter.phase],
    ["Tries", letter.attempts], ["Replays before", letter.replays || null], ["Handled", letter.handled], ["Exception", letter.exception],
    ["Message", one.message], ["Timestamp", dateTime(one.timestamp / 1000)], ["Key", one.key + why("key")], ["Value", one.value + why("value")],
    ...one.headers.map(([header, value]) => [`Header ${header}`, value]),
  ];
  return facts.filter(([, words]) => words !== null && words !== undefined).map(([label, words]) => [label, String(words)]);
}
