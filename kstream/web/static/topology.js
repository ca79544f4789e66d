// The section with the drawing: fitting, zooming, moving, and how loaded each sub-topology is.

import { h, svg } from "./dom.js";
import { Drawing } from "./graph.js";

const TALLEST = 560;
const READABLE = 0.66; // below this scale labels cannot be read: then only a part is shown at first
const NARROW = 600; // a part of it would be nothing: the whole is shown, to be zoomed into

/** Of each sub-topology: the busiest worker's share for it, and sums over its tasks in this instance. */
export function loadsOf(tasks) {
  const loads = new Map();
  for (const task of tasks) {
    const name = task.name.slice(0, task.name.lastIndexOf("/"));
    if (!loads.has(name)) loads.set(name, { tasks: 0, lag: 0, failed: 0, workers: new Map() });
    const load = loads.get(name);
    load.tasks += 1;
    load.lag += task.lag;
    load.failed += task.state === "failed" ? 1 : 0;
    const worker = load.workers.get(task.worker) ?? { busy: 0, backpressured: 0 };
    worker.busy += task.busy;
    worker.backpressured += task.backpressured;
    load.workers.set(task.worker, worker);
  }
  for (const load of loads.values()) {
    load.busy = Math.max(...[...load.workers.values()].map((worker) => worker.busy));
    load.backpressured = Math.max(...[...load.workers.values()].map((worker) => worker.backpressured));
  }
  return loads;
}

/** How far the tasks here have come, in event time, in what an edge brings from a topic: the least of the partitions that are not idle. */
export function timesOf(graph, tasks) {
  const nodes = new Map(graph.nodes.map((node) => [node.id, node]));
  const times = new Map();
  for (const edge of graph.edges) {
    const [topic, part] = [nodes.get(edge.source), nodes.get(edge.target)?.part];
    if (topic?.kind !== "topic" || !part) continue;
    const inputs = tasks
      .filter((task) => task.name.slice(0, task.name.lastIndexOf("/")) === part)
      .flatMap((task) => task.inputs)
      .filter((one) => one.topic === topic.label && one.event_time !== null && one.event_time !== undefined);
    const awake = inputs.filter((one) => !one.idle);
    const known = (awake.length ? awake : inputs).map((one) => one.event_time);
    if (known.length) times.set(edge.id, Math.min(...known));
  }
  return times;
}

export class Topology {
  constructor(root) {
    this.view = { x: 0, y: 0, width: 1, height: 1 };
    this.fitted = null;
    const arrow = svg(
      "marker",
      { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, orient: "auto", markerUnits: "userSpaceOnUse" },
      svg("path", { d: "M0 0.5L8 4L0 7.5z" }),
    );
    this.svg = svg("svg", { class: "graph", tabindex: 0, role: "img", "aria-label": "Topology" }, svg("defs", {}, arrow));
    const button = (label, name, act) => h("button", { type: "button", class: "small", "aria-label": name, title: name, onclick: act }, label);
    root.append(
      h("div", { class: "graph-frame" }, this.svg,
        h("div", { class: "zoom" },
          button("+", "Zoom in", () => this.zoom(1.25)),
          button("−", "Zoom out", () => this.zoom(0.8)),
          button("Fit", "Fit the whole topology", () => this.fit()))),
      h("p", { class: "legend" },
        h("span", { class: "key busy" }), "busy", h("span", { class: "key back" }), "backpressured",
        h("span", { class: "key idle" }), "idle: share of the busiest worker's time",
        h("span", { class: "key internal" }), "internal topic",
        h("span", { class: "hint" }, "Drag or arrow keys move, + and − zoom, 0 fits. Rates are this instance's.")),
    );
    new ResizeObserver(() => this.fitted !== null && this.fit(this.fitted)).observe(this.svg);
    this.listen();
  }

  draw(graph) {
    this.graph = graph;
    this.drawing?.element.remove();
    this.drawing = new Drawing(graph);
    this.svg.append(this.drawing.element);
    this.svg.setAttribute(
      "aria-label",
      `Topology of ${graph.app}: ${graph.parts.length} sub-topologies, ${graph.nodes.filter((node) => !node.part).length} topics`,
    );
    this.fit(READABLE);
  }

  update(status) {
    this.drawing?.update(loadsOf(status.tasks), status.edges, status.failing, timesOf(this.graph, status.tasks));
  }

  /** Shows the whole, or, with `least`, as much as fits at that scale, from the left. */
  fit(least = 0) {
    if (!this.drawing || !this.svg.clientWidth) return;
    const { width, height } = this.drawing;
    const room = this.svg.clientWidth;
    const whole = Math.min((room - 24) / width, TALLEST / height, 1.1);
    const scale = Math.max(whole, room < NARROW ? 0 : least);
    const tall = Math.round(Math.max(120, Math.min(TALLEST, height * scale) + 24));
    this.svg.style.setProperty("height", `${tall}px`);
    const [w, t] = [room / scale, tall / scale];
    const x = width * scale > room ? -12 / scale : (width - w) / 2;
    this.show({ x, y: (height - t) / 2, width: w, height: t });
    this.fitted = least;
  }

  show(view) {
    this.view = view;
    this.svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.width} ${view.height}`);
  }

  zoom(factor, at = { x: 0.5, y: 0.5 }) {
    const { x, y, width, height } = this.view;
    const scale = (this.svg.clientWidth / width) * factor;
    if (scale > 4 || scale < 0.1) return;
    const [w, t] = [width / factor, height / factor];
    this.fitted = null;
    this.show({ x: x + (width - w) * at.x, y: y + (height - t) * at.y, width: w, height: t });
  }

  move(dx, dy) {
    const scale = this.view.width / this.svg.clientWidth;
    this.fitted = null;
    this.show({ ...this.view, x: this.view.x - dx * scale, y: this.view.y - dy * scale });
  }

  listen() {
    let held = null;
    this.svg.addEventListener("pointerdown", (event) => {
      held = { x: event.clientX, y: event.clientY };
      this.svg.setPointerCapture(event.pointerId);
    });
    this.svg.addEventListener("pointermove", (event) => {
      if (!held) return;
      this.move(event.clientX - held.x, event.clientY - held.y);
      held = { x: event.clientX, y: event.clientY };
    });
    for (const end of ["pointerup", "pointercancel"]) this.svg.addEventListener(end, () => (held = null));
    this.svg.addEventListener(
      "wheel",
      (event) => {
        const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY);
        if (!event.ctrlKey && !event.metaKey && !sideways) return; // a plain wheel scrolls the page
        event.preventDefault();
        if (sideways) return this.move(-event.deltaX, 0);
        const box = this.svg.getBoundingClientRect();
        const at = { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
        this.zoom(event.deltaY < 0 ? 1.12 : 0.89, at);
      },
      { passive: false },
    );
    const keys = {
      ArrowLeft: () => this.move(40, 0), ArrowRight: () => this.move(-40, 0), ArrowUp: () => this.move(0, 40),
      ArrowDown: () => this.move(0, -40), "+": () => this.zoom(1.25), "=": () => this.zoom(1.25), "-": () => this.zoom(0.8),
      0: () => this.fit(),
    };
    this.svg.addEventListener("keydown", (event) => {
      const act = event.ctrlKey || event.metaKey || event.altKey ? null : keys[event.key];
      if (act) {
        event.preventDefault();
        act();
      }
    });
  }
}
