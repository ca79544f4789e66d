// The top of the page: who this is, how it is, and the few numbers that say most.

import { behind, worst } from "./behind.js";
import { attribute, badge, h, keyed, loadBar, number, setLoad, text, TONES } from "./dom.js";
import { bytes, count, dateTime, duration, exact, percent, rate } from "./format.js";

export class Heading {
  constructor(root, buttons) {
    this.app = h("h1", {});
    this.instance = h("span", { class: "instance", id: "instance" });
    this.state = h("span", { id: "state" });
    this.ready = h("span", { id: "ready" });
    this.about = h("span", { class: "about" });
    this.connection = h("span", { class: "connection", id: "connection", role: "status" });
    root.append(
      h("img", { src: "/static/icon.svg", alt: "", width: 26, height: 26 }),
      h("div", { class: "names" }, this.app, this.instance),
      this.state, this.ready, this.about,
      h("div", { class: "row end" }, this.connection, ...buttons),
    );
  }

  update(status, instances) {
    text(this.app, status.app);
    text(this.instance, status.instance);
    badge(this.state, status.state, TONES[status.state] ?? "calm");
    badge(this.ready, status.ready ? "ready" : "not ready", status.ready ? "good" : "bad");
    const parts = [`up ${duration(status.at - status.started)}`, status.version, `${instances.length || 1} ${instances.length > 1 ? "instances" : "instance"}`];
    text(this.about, parts.filter(Boolean).join(" · "));
    attribute(this.about, "title", `started ${dateTime(status.started)}, process ${status.pid} on ${status.host}`);
    document.title = `${status.ready ? "" : "⚠ "}${status.app} · ${status.instance}`;
  }
}

export class Reasons {
  constructor(root) {
    this.root = root;
  }

  update(status) {
    this.root.hidden = status.ready && !status.reasons.length;
    const items = status.reasons.map((words) => ({ words }));
    if (!items.length) items.push({ words: "Not ready; no reason was given." });
    keyed(this.root, items, (one) => one.words, () => h("li", {}), (node, one) => text(node, one.words));
  }
}

/** A tile: a title, a number, and lines under it. */
function tile(root, id, title, unit) {
  const value = h("data", { id, class: "big" });
  const said = [h("p", {}), h("p", {})];
  root.append(h("div", { class: "card tile" }, h("h3", {}, title), h("p", { class: "number" }, value, unit ? h("span", { class: "unit" }, unit) : null), ...said));
  return { value, said };
}

const OLD = 600; // seconds
const AGE =
  "From a record's time in Kafka to its commit here: what it waited, in an outage too, and its processing. " +
  "Of history that is replayed it is the age of the history. Processing: operators and user code, per record.";

const BEHIND =
  "How long the next record has waited since it came, in the task where that is longest. " +
  "Partitions in which nothing waits do not count, nor do old timestamps.";

export class Tiles {
  constructor(root) {
    this.in = tile(root, "rate-in", "Records in", "/s");
    this.out = tile(root, "rate-out", "Records out", "/s");
    this.lag = tile(root, "lag", "Lag", "records");
    this.behind = tile(root, "behind", "Time behind", "");
    this.latency = tile(root, "latency", "Age at commit, p99", "");
    this.checkpoint = tile(root, "checkpoint", "Checkpoint, median", "");
    this.load = tile(root, "load", "Load", "busy");
    this.bar = loadBar();
    this.load.value.parentElement.after(this.bar);
    this.committed = h("data", { id: "committed" });
    this.produced = h("data", { id: "produced" });
    this.in.said[0].append(this.committed, " committed");
    this.out.said[0].append(this.produced, " produced");
    this.checkpoints = h("data", { id: "checkpoints-done" });
    this.failures = h("data", { id: "checkpoint-failures" });
    this.checkpoint.said[0].append(this.checkpoints, " done");
    this.checkpoint.said[1].append(this.failures, " failed");
  }

  update(status, instances) {
    const { totals } = status;
    number(this.in.value, totals.rate_in, rate(totals.rate_in));
    number(this.committed, totals.committed, exact(totals.committed));
    number(this.out.value, totals.rate_out, rate(totals.rate_out));
    number(this.produced, totals.produced, exact(totals.produced));
    text(this.in.said[1], `${bytes(totals.bytes_in)}/s${ofAll(instances, "rate_in", (sum) => `${rate(sum)}/s`)}`);
    text(this.out.said[1], `${bytes(totals.bytes_out)}/s${ofAll(instances, "rate_out", (sum) => `${rate(sum)}/s`)}`);
    this.showLag(status, instances);
    this.showBehind(status, instances);
    number(this.latency.value, totals.latency_p99, duration(totals.latency_p99));
    text(this.latency.said[0], `median ${duration(totals.latency_p50)}`);
    const old = totals.latency_p50 > OLD;
    text(this.latency.said[1], old ? "a backlog or history is read" : `processing ${duration(totals.processing_p99)} a record`);
    attribute(this.latency.said[1], "title", AGE);
    const done = status.checkpoints.filter((one) => !one.error).map((one) => one.seconds).sort((a, b) => a - b);
    const median = done[Math.floor(done.length / 2)];
    number(this.checkpoint.value, median, duration(median));
    number(this.checkpoints, totals.checkpoints, exact(totals.checkpoints));
    number(this.failures, totals.checkpoint_failures, exact(totals.checkpoint_failures));
    attribute(this.checkpoint.said[1], "class", totals.checkpoint_failures ? "failure" : null);
    number(this.load.value, totals.busy, percent(totals.busy));
    setLoad(this.bar, totals.busy, totals.backpressured);
    text(this.load.said[0], `${percent(totals.backpressured)} backpressured`);
    attribute(this.load.said[0], "title", `${percent(totals.idle)} idle: shares of the workers' time`);
  }

  showLag({ totals, tasks }, instances) {
    number(this.lag.value, totals.lag, count(totals.lag));
    const most = tasks.reduce((best, task) => (task.lag > (best?.lag ?? 0) ? task : best), null);
    text(this.lag.said[0], most ? `${count(most.lag)} in ${most.name}` : "no task is behind");
    attribute(this.lag.said[0], "title", most ? `the most: ${most.name}` : null);
    text(this.lag.said[1], `${exact(totals.lag)}${ofAll(instances, "lag", count)}`);
  }

  showBehind({ tasks }, instances) {
    const own = worst(tasks), heard = instances.filter((one) => one.state !== "silent");
    const all = heard.length < 2 ? null : worst(heard.flatMap((one) => one.tasks));
    number(this.behind.value, own?.seconds, behind(own?.seconds));
    text(this.behind.said[0], own ? own.task.name : "nothing waits");
    attribute(this.behind.said[0], "title", own ? `${own.task.name}. ${BEHIND}` : BEHIND);
    text(this.behind.said[1], all ? `all ${heard.length}: ${behind(all.seconds)} in ${all.task.name}` : "");
    attribute(this.behind.said[1], "title", all ? all.task.name : null);
  }
}

function ofAll(instances, name, format) {
  const heard = instances.filter((one) => one.state !== "silent");
  if (heard.length < 2) return "";
  return ` · all ${heard.length}: ${format(heard.reduce((sum, one) => sum + one.totals[name], 0))}`;
}
