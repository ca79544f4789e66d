// Curves over the last ten minutes, and bars of checkpoints: plain SVG, redrawn when a point comes.

import { attribute, h, keyed, number, svg, text } from "./dom.js";
import { clock, dateTime, duration, exact } from "./format.js";

// seconds shown -> seconds between marks; of a young instance, the shortest that holds what there is
const SPANS = new Map([[60, 15], [120, 30], [300, 60], [600, 120]]);
const HEIGHT = 150;
const BARS = 156;
const LEFT = 52;
const BOTTOM = 18;
const TOP = 8;

/** Round steps for an axis from 0 to at least `most`; in seconds they would be read as decimals all the same. */
function ticks(most) {
  const rough = Math.max(most, 1e-9) / 3;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough);
  return [0, 1, 2, 3].map((n) => n * step).filter((value, at, all) => at === 0 || all[at - 1] < most);
}

/** 50.0k as 50k: the values of an axis are round. */
const roundly = (words) => words.replace(/\.0+(?!\d)/, "");

export class Curves {
  /** `series`: [{name, label, of: point => value or null}]; `format` shows a value; `most`: the top of a fixed axis.
   * A series with `app` is that of all instances: it is left out where there is one only. */
  constructor(root, { title, series, format, least = 1e-3, most = null }) {
    Object.assign(this, { series, format, least, most, points: [], pointed: null });
    this.legend = series.map((one) => ({ value: h("data", {}), one }));
    this.svg = svg("svg", { class: "curves", height: HEIGHT, role: "img", tabindex: 0 });
    this.grid = svg("g", { class: "grid" });
    this.paths = series.map((one) => svg("path", { class: `curve ${one.name}` }));
    this.areas = series.map((one) => svg("path", { class: `area ${one.name}` }));
    this.cursor = svg("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
    this.svg.append(this.grid, ...this.areas, ...this.paths, this.cursor);
    this.when = h("span", { class: "when" });
    root.append(
      h("figure", { class: "card chart" },
        h("figcaption", {}, h("h3", {}, title), this.when,
          h("span", { class: "values" }, ...this.legend.map(({ value, one }) =>
            h("span", { class: `value ${one.name}` }, h("i", { class: "swatch" }), one.label, " ", value)))),
        this.svg),
    );
    this.title = title;
    new ResizeObserver(() => this.draw()).observe(this.svg);
    this.listen();
  }

  listen() {
    const point = (event) => {
      const box = this.svg.getBoundingClientRect();
      this.pointed = Math.min(1, Math.max(0, (event.clientX - box.left - LEFT) / (box.width - LEFT)));
      this.show();
    };
    const leave = () => {
      this.pointed = null;
      this.show();
    };
    this.svg.addEventListener("pointermove", point);
    this.svg.addEventListener("pointerleave", leave);
    this.svg.addEventListener("blur", leave);
    this.svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.pointed = Math.min(1, Math.max(0, (this.pointed ?? 1) + (step * 5) / this.span));
      this.show();
    });
  }

  update(points) {
    this.points = points;
    this.draw();
  }

  draw() {
    const width = this.svg.clientWidth;
    if (!width || !this.points.length) return;
    attribute(this.svg, "viewBox", `0 0 ${width} ${HEIGHT}`);
    const end = this.points.at(-1).at;
    this.span = [...SPANS.keys()].find((one) => one >= end - this.points[0].at) ?? 600;
    const highest = Math.max(this.least, ...this.points.flatMap((point) => this.series.map((one) => one.of(point) ?? 0)));
    const steps = ticks(this.most ?? highest);
    const top = this.most ?? steps.at(-1);
    const x = (at) => LEFT + ((at - end + this.span) / this.span) * (width - LEFT - 2);
    const y = (value) => HEIGHT - BOTTOM - (Math.min(value, top) / top) * (HEIGHT - BOTTOM - TOP);
    this.x = x;
    this.axes(width, steps.filter((step) => step <= top * 1.001), y, x, end);
    this.series.forEach((one, at) => {
      const runs = runsOf(this.points.filter((point) => point.at >= end - this.span), one.of);
      const line = (run) => run.map(([t, value]) => `${x(t).toFixed(1)} ${y(value).toFixed(1)}`).join("L");
      attribute(this.paths[at], "d", runs.map((run) => `M${line(run)}${run.length === 1 ? "h1" : ""}`).join("") || "M0 0");
      const area = runs.map((run) => `M${x(run[0][0]).toFixed(1)} ${y(0)}L${line(run)}L${x(run.at(-1)[0]).toFixed(1)} ${y(0)}z`);
      attribute(this.areas[at], "d", at === 0 ? area.join("") || "M0 0" : "M0 0");
    });
    this.show();
  }

  axes(width, steps, y, x, end) {
    const rows = steps.map((value) => ({ id: `y${value}`, value }));
    const step = width > 420 ? SPANS.get(this.span) : this.span / 2;
    const columns = [];
    for (let ago = this.span; ago > 0; ago -= step) columns.push({ id: `x${ago}`, ago, first: ago === this.span });
    const make = () => svg("g", {}, svg("line", {}), svg("text", {}));
    keyed(this.grid, [...rows, ...columns], (one) => one.id, make, (group, one) => {
      const [line, label] = group.children;
      if ("ago" in one) {
        const at = x(end - one.ago);
        attribute(line, "visibility", "hidden");
        attribute(label, "x", Math.round(at));
        attribute(label, "y", HEIGHT - 4);
        attribute(label, "text-anchor", one.first ? "start" : "middle");
        text(label, one.ago < 120 ? `−${one.ago} s` : `−${one.ago / 60} min`);
      } else {
        const at = Math.round(y(one.value)) + 0.5;
        for (const [name, value] of [["x1", LEFT], ["x2", width], ["y1", at], ["y2", at]]) attribute(line, name, value);
        attribute(label, "x", LEFT - 6);
        attribute(label, "y", at + 3.5);
        attribute(label, "text-anchor", "end");
        text(label, roundly(this.format(one.value)));
      }
    });
  }

  /** The values of the point under the cursor, or of the newest. */
  show() {
    if (!this.points.length || !this.x) return;
    const end = this.points.at(-1).at;
    const wanted = this.pointed === null ? end : end - this.span + this.pointed * this.span;
    const near = this.points.reduce((best, point) => (Math.abs(point.at - wanted) < Math.abs(best.at - wanted) ? point : best));
    text(this.when, this.pointed === null ? "" : clock(near.at));
    attribute(this.cursor, "visibility", this.pointed === null ? "hidden" : "visible");
    attribute(this.cursor, "x1", this.x(near.at));
    attribute(this.cursor, "x2", this.x(near.at));
    for (const { value, one } of this.legend) {
      number(value, one.of(near), this.format(one.of(near)));
      if (one.app) value.parentElement.hidden = (one.of(near) ?? null) === null;
    }
    attribute(this.svg, "aria-label", `${this.title}: ${this.legend.filter(({ value }) => !value.parentElement.hidden).map(({ value, one }) => `${one.label} ${value.textContent}`).join(", ")}`);
  }
}

/** Runs of points without gaps: a missing value, or more than five seconds without a point, ends one. */
function runsOf(points, of) {
  const runs = [];
  let run = null;
  let before = null;
  for (const point of points) {
    const value = of(point);
    if (value === null || value === undefined) {
      run = null;
      continue;
    }
    if (!run || point.at - before > 5) runs.push((run = []));
    run.push([point.at, value]);
    before = point.at;
  }
  return runs;
}

export class Bars {
  /** Durations of checkpoints, oldest first; those that failed are as high as the chart, and red. */
  constructor(root) {
    this.svg = svg("svg", { class: "bars", height: BARS, role: "img" });
    this.said = h("p", { class: "said" });
    root.append(h("div", { class: "bars-body" }, this.svg, this.said));
    this.checkpoints = [];
    new ResizeObserver(() => this.draw()).observe(this.svg);
  }

  update(checkpoints) {
    this.checkpoints = checkpoints;
    this.draw();
  }

  draw() {
    const width = this.svg.clientWidth;
    if (!width) return;
    const most = Math.max(12, Math.floor((width - LEFT) / 5));
    const shown = this.checkpoints.slice(-most);
    attribute(this.svg, "viewBox", `0 0 ${width} ${BARS}`);
    const steps = ticks(Math.max(0.001, ...shown.map((one) => (one.error ? 0 : one.seconds))));
    const top = steps.at(-1);
    const [low, full] = [BARS - 4, BARS - 12];
    const y = (value) => low - (Math.min(value, top) / top) * full;
    const step = Math.min(14, (width - LEFT) / Math.max(shown.length, 1));
    const lines = steps.map((value) => ({ id: `axis ${value}`, value }));
    const bars = shown.map((one, at) => ({ id: `${one.at} ${one.worker}`, one, x: LEFT + at * step }));
    const make = (item) =>
      "one" in item ? svg("rect", { rx: 1 }, svg("title", {})) : svg("g", { class: "grid" }, svg("line", { x1: LEFT }), svg("text", { x: LEFT - 6, "text-anchor": "end" }));
    keyed(this.svg, [...lines, ...bars], (item) => item.id, make, (node, item) => {
      if ("value" in item) {
        const at = Math.round(y(item.value)) + 0.5;
        for (const [name, value] of [["x2", width], ["y1", at], ["y2", at]]) attribute(node.children[0], name, value);
        attribute(node.children[1], "y", at + 3.5);
        text(node.children[1], roundly(duration(item.value)));
        return;
      }
      const { one } = item;
      const high = one.error ? full : Math.max(2, low - y(one.seconds));
      attribute(node, "class", one.error ? "failed" : "done");
      attribute(node, "x", item.x.toFixed(1));
      attribute(node, "y", (low - high).toFixed(1));
      attribute(node, "width", Math.max(1.5, step - 1.5).toFixed(1));
      attribute(node, "height", high.toFixed(1));
      text(node.firstChild, `${dateTime(one.at)}, worker ${one.worker}: ${one.error ?? `${duration(one.seconds)}, ${exact(one.records)} records of ${one.tasks} tasks`}`);
    });
    const failed = shown.filter((one) => one.error).length;
    const words = shown.length ? `The last ${shown.length}; ${failed ? `${failed} failed` : "none failed"}.` : "No checkpoint yet.";
    text(this.said, words);
    attribute(this.svg, "aria-label", `Durations of checkpoints. ${words}`);
  }
}
