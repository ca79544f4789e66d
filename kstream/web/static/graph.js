// The topology as a drawing: sub-topologies as boxes with their operators and stores, topics between them, live rates.

import { attribute, svg, text } from "./dom.js";
import { clock, count, cut, dateTime, exact, percent, rate } from "./format.js";
import { layered } from "./layout.js";

const PAD = 14;
const HEADER = 40;
const STORE = 15;

const measure = (() => {
  const context = document.createElement("canvas").getContext("2d");
  const family = getComputedStyle(document.body).fontFamily;
  return (words, size) => {
    context.font = `${size}px ${family}`;
    return context.measureText(words).width;
  };
})();

function shortened(words, size, most) {
  if (measure(words, size) <= most) return words;
  let kept = words.length - 1;
  while (kept > 3 && measure(cut(words, kept), size) > most) kept -= 1;
  return cut(words, kept);
}

const isEnd = (node) => node.kind === "source" || node.kind === "sink";

function sizeOf(node) {
  if (node.part && isEnd(node)) return { width: 12, height: 12 };
  const most = node.part ? 150 : 170;
  const words = [node.label, node.part ? node.kind : "", ...node.stores.map((store) => `   ${store}`)];
  const width = Math.min(most, Math.max(...words.map((one) => measure(one, 12))) + 22);
  return { width: Math.max(node.part ? 62 : 50, width), height: node.part ? 36 + STORE * node.stores.length : 30 };
}

/** Where everything goes: {width, height, nodes: id -> box, parts: name -> box, paths: edge id -> [points]}. */
export function arrange(graph) {
  const sized = new Map(graph.nodes.map((node) => [node.id, { ...node, ...sizeOf(node) }]));
  const partOf = (id) => sized.get(id)?.part ?? null;
  const edges = graph.edges.filter((edge) => sized.has(edge.source) && sized.has(edge.target));
  const inner = new Map(graph.parts.map((name) => [name, inside(name, sized, edges, partOf)]));

  const blockOf = (id) => (partOf(id) ? `part ${partOf(id)}` : `topic ${id}`);
  const blocks = [
    ...[...sized.values()].filter((node) => !node.part).map((node) => ({ ...node, id: blockOf(node.id) })),
    ...[...inner].map(([name, part]) => ({ id: `part ${name}`, width: part.width, height: part.height })),
  ];
  const between = edges.filter((edge) => blockOf(edge.source) !== blockOf(edge.target));
  const outer = layered(
    blocks,
    between.map((edge) => ({ id: edge.id, source: blockOf(edge.source), target: blockOf(edge.target) })),
    62,
    22,
  );

  const nodes = new Map();
  const parts = new Map();
  for (const [name, part] of inner) {
    const corner = outer.at.get(`part ${name}`);
    parts.set(name, { ...corner, width: part.width, height: part.height });
    for (const [id, at] of part.at) {
      if (sized.has(id)) nodes.set(id, { ...sized.get(id), x: corner.x + at.x, y: corner.y + at.y });
    }
  }
  for (const node of sized.values()) if (!node.part) nodes.set(node.id, { ...node, ...outer.at.get(blockOf(node.id)) });
  const paths = new Map(edges.map((edge) => [edge.id, route(edge, nodes, parts, inner, outer, partOf)]));
  return { width: outer.width, height: outer.height, nodes, parts, paths };
}

/** The layout within a sub-topology; edges that cross its border get a point on the border, and a lane to it. */
function inside(name, sized, edges, partOf) {
  const nodes = [...sized.values()].filter((node) => node.part === name);
  const links = [];
  for (const edge of edges) {
    const [from, to] = [partOf(edge.source) === name, partOf(edge.target) === name];
    if (from && to) links.push(edge);
    else if (to) {
      nodes.push({ id: `in ${edge.id}`, width: 0, height: 8, first: true });
      links.push({ id: `in ${edge.id}`, source: `in ${edge.id}`, target: edge.target });
    } else if (from) {
      nodes.push({ id: `out ${edge.id}`, width: 0, height: 8, last: true });
      links.push({ id: `out ${edge.id}`, source: edge.source, target: `out ${edge.id}` });
    }
  }
  const laid = layered(nodes, links, 60, 14);
  const shift = ({ x, y, ...rest }) => ({ ...rest, x: x + PAD, y: y + HEADER });
  const width = Math.max(laid.width + 2 * PAD, Math.min(210, measure(name, 12) + 3 * PAD));
  const at = new Map([...laid.at].map(([id, point]) => [id, shift(point)]));
  const lanes = new Map([...laid.lanes].map(([id, some]) => [id, some.map(shift)]));
  return { width, height: laid.height + HEADER + PAD, at, lanes };
}

/** The points an edge goes through, each with the direction of a horizontal tangent. */
function route(edge, nodes, parts, inner, outer, partOf) {
  const points = [];
  const [source, target] = [nodes.get(edge.source), nodes.get(edge.target)];
  const [from, to] = [partOf(edge.source), partOf(edge.target)];
  const along = (lanes, corner) => {
    for (const lane of lanes ?? []) {
      points.push({ x: corner.x + lane.x, y: corner.y + lane.y });
      if (lane.width) points.push({ x: corner.x + lane.x + lane.width, y: corner.y + lane.y });
    }
  };
  const back = source.x > target.x;
  points.push({ x: source.x + (back ? 0 : source.width), y: source.y + source.height / 2 });
  if (from && from === to) along(inner.get(from).lanes.get(edge.id), parts.get(from));
  else {
    if (from) {
      const corner = parts.get(from);
      along(inner.get(from).lanes.get(`out ${edge.id}`), corner);
      const port = inner.get(from).at.get(`out ${edge.id}`);
      points.push({ x: corner.x + (back ? 0 : corner.width), y: corner.y + port.y + 4, border: true });
    }
    along(outer.lanes.get(edge.id), { x: 0, y: 0 });
    if (to) {
      const corner = parts.get(to);
      const port = inner.get(to).at.get(`in ${edge.id}`);
      points.push({ x: corner.x + (back ? corner.width : 0), y: corner.y + port.y + 4, border: true });
      along(inner.get(to).lanes.get(`in ${edge.id}`), corner);
    }
  }
  points.push({ x: target.x + (back ? target.width : 0), y: target.y + target.height / 2 });
  return points;
}

function curve(points) {
  let path = `M${points[0].x} ${points[0].y}`;
  for (let at = 1; at < points.length; at += 1) {
    const [a, b] = [points[at - 1], points[at]];
    const bend = Math.abs(a.y - b.y) < 0.5 ? 0 : (b.x - a.x) / 2;
    path += bend ? `C${a.x + bend} ${a.y} ${b.x - bend} ${b.y} ${b.x} ${b.y}` : `L${b.x} ${b.y}`;
  }
  return path;
}

/**
 * Where the rate is written: on the longest piece, in its middle; where edges part, at the target's end, where they join,
 * at the source's. There it lies on the side that the curve does not come from.
 */
function labelPlace(points, side) {
  const pieces = points.slice(1).map((b, at) => ({ a: points[at], b, length: Math.abs(b.x - points[at].x) }));
  const { a, b, length } = pieces.reduce((best, one) => (one.length > best.length + 1 ? one : best));
  const steep = Math.abs(a.y - b.y) > 8;
  if (steep && side === "target") return { x: b.x - 9, y: b.y + (b.y > a.y ? 13 : -6), anchor: "end", length };
  if (steep && side === "source") return { x: a.x + 4, y: a.y + (a.y > b.y ? 13 : -6), anchor: "start", length };
  return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 - 5, anchor: "middle", length };
}

function sideOf(edge, edges) {
  if (edges.filter((other) => other.source === edge.source).length > 1) return "target";
  return edges.filter((other) => other.target === edge.target).length > 1 ? "source" : "middle";
}

/** Draws once; `update` changes numbers and colours only. */
export class Drawing {
  constructor(graph) {
    this.graph = graph;
    const plan = arrange(graph);
    [this.width, this.height] = [plan.width, plan.height];
    const edges = svg("g", { class: "edges" });
    const parts = svg("g", {});
    const nodes = svg("g", {});
    const labels = svg("g", { class: "rates" });
    const times = svg("g", { class: "times" });
    const badges = svg("g", { class: "badges" });
    this.element = svg("g", {}, parts, edges, nodes, labels, times, badges);
    this.edges = graph.edges
      .filter((edge) => plan.paths.has(edge.id))
      .map((edge) => {
        const points = plan.paths.get(edge.id);
        const line = svg("path", { class: "edge", d: curve(points), "marker-end": "url(#arrow)" });
        const place = labelPlace(points, sideOf(edge, graph.edges));
        const label = svg("text", { x: place.x, y: place.y, "text-anchor": place.anchor });
        const below = place.anchor === "middle" ? 17 : place.y > points[points.length - 1].y ? 11 : -11;
        const time = svg("text", { x: place.x, y: place.y + below, "text-anchor": place.anchor, "data-edge": edge.id });
        const title = svg("title", {});
        line.append(title);
        edges.append(line);
        if (place.length >= 34) labels.append(label);
        if (place.length >= 34) times.append(time);
        return { edge, line, label, time, title };
      });
    this.parts = [...plan.parts].map(([name, box]) => {
      const one = drawPart(name, box);
      parts.append(one.element);
      return { name, ...one };
    });
    this.nodes = [...plan.nodes.values()].map((node) => {
      const element = node.part ? drawOperator(node) : drawTopic(node);
      const badge = drawBadge(node);
      nodes.append(element);
      badges.append(badge);
      return { id: node.id, element, badge };
    });
  }

  /**
   * `loads`: part -> {busy, backpressured, tasks, lag, failed}; `rates`: edge id -> records/s; `failing`: node id -> records;
   * `times`: edge id -> event time.
   */
  update(loads, rates, failing = {}, times = new Map()) {
    for (const { edge, line, label, time, title } of this.edges) {
      const now = rates[edge.id];
      const at = times.get(edge.id);
      text(label, now === undefined ? "" : `${rate(now)}/s`);
      text(time, at === undefined ? "" : clock(at));
      attribute(time, "data-value", at);
      const said = now === undefined ? edge.id : `${edge.id}: ${rate(now)} records/s`;
      text(title, at === undefined ? said : `${said}, event time ${dateTime(at)}`);
      attribute(label, "data-edge", edge.id);
      attribute(label, "data-value", now);
      const width = now > 0 ? Math.min(4.5, 1.2 + Math.log10(1 + now) * 0.55) : 1;
      line.style.setProperty("stroke-width", `${width.toFixed(1)}px`);
      line.classList.toggle("still", !(now > 0));
    }
    for (const { id, element, badge } of this.nodes) {
      const failed = failing[id];
      text(badge, failed ? `${count(failed)} failed/min` : "");
      attribute(badge, "data-value", failed);
      element.classList.toggle("failing", failed > 0);
    }
    for (const part of this.parts) part.update(loads.get(part.name));
  }
}

/** Above its upper right corner: the records that failed there within the last minute. */
function drawBadge(node) {
  return svg("text", { "data-node": node.id, x: node.x + node.width, y: node.y - 3, "text-anchor": "end" });
}

function drawTopic(node) {
  const name = `${node.internal ? "internal " : ""}topic ${node.label}`;
  return svg(
    "g",
    { class: node.internal ? "topic internal" : "topic", transform: `translate(${node.x} ${node.y})` },
    svg("title", {}, name),
    svg("rect", { width: node.width, height: node.height, rx: node.height / 2 }),
    svg("text", { x: node.width / 2, y: node.height / 2 + 4, "text-anchor": "middle" }, shortened(node.label, 12, node.width - 18)),
  );
}

function drawOperator(node) {
  const title = `${node.kind} ${node.label}${node.stores.length ? `, stores ${node.stores.join(", ")}` : ""}`;
  if (isEnd(node)) {
    return svg("g", { class: "operator end" }, svg("title", {}, title), svg("circle", { cx: node.x + 6, cy: node.y + 6, r: 5 }));
  }
  const group = svg(
    "g",
    { class: "operator", transform: `translate(${node.x} ${node.y})` },
    svg("title", {}, title),
    svg("rect", { width: node.width, height: node.height, rx: 6 }),
    svg("text", { class: "kind", x: 10, y: 14 }, node.kind),
    svg("text", { x: 10, y: 28 }, shortened(node.label, 12, node.width - 18)),
  );
  node.stores.forEach((store, at) => {
    const y = 36 + STORE * at;
    group.append(
      svg("path", { class: "cylinder", d: `M10 ${y + 2}v6c0 2.4 8 2.4 8 0v-6c0-2.4-8-2.4-8 0c0 2.4 8 2.4 8 0` }),
      svg("text", { class: "store", x: 23, y: y + 9 }, shortened(store, 11, node.width - 30)),
    );
  });
  return group;
}

function drawPart(name, box) {
  const title = svg("title", {});
  const load = svg("text", { class: "kind", x: PAD, y: 32 });
  const busy = svg("rect", { class: "busy", x: 10, y: -2, height: 4, width: 0, rx: 2 });
  const back = svg("rect", { class: "back", y: -2, height: 4, width: 0, rx: 2 });
  const frame = svg("rect", { class: "frame", width: box.width, height: box.height, rx: 10 });
  const element = svg(
    "g",
    { class: "part", transform: `translate(${box.x} ${box.y})`, "data-part": name },
    title,
    frame,
    busy,
    back,
    svg("text", { class: "name", x: PAD, y: 18 }, shortened(name, 12, box.width - 2 * PAD)),
    load,
  );
  const update = (state) => {
    const now = state ?? { busy: 0, backpressured: 0, tasks: 0, lag: 0, failed: 0 };
    const wide = box.width > 240;
    const words = now.failed ? [`${exact(now.failed)} of ${exact(now.tasks)} failed`] : [];
    if (now.failed < now.tasks || !state) words.push(`${percent(now.busy)} busy`);
    if (now.backpressured >= 0.005) words.push(`${percent(now.backpressured)} backpr${wide ? "essured" : "."}`);
    if (wide || words.length === 1) words.push(`lag ${count(now.lag)}`);
    text(load, state ? shortened(words.join(" · "), 11, box.width - 2 * PAD) : "no task here");
    text(
      title,
      `sub-topology ${name}: ${now.tasks} tasks in this instance, lag ${exact(now.lag)}; of its busiest worker ` +
        `${percent(now.busy)} busy, ${percent(now.backpressured)} backpressured` +
        (now.failed ? `; ${exact(now.failed)} failed` : ""),
    );
    const room = box.width - 20;
    attribute(busy, "width", (Math.min(1, now.busy) * room).toFixed(1));
    attribute(back, "x", (10 + Math.min(1, now.busy) * room).toFixed(1));
    attribute(back, "width", (Math.min(1 - Math.min(1, now.busy), now.backpressured) * room).toFixed(1));
    element.style.setProperty("--busy-share", `${Math.round(Math.min(1, now.busy) * 100)}%`);
    element.style.setProperty("--back-share", `${Math.round(Math.min(1, now.backpressured) * 100)}%`);
    const marks = [now.failed ? "failed" : "", now.backpressured > now.busy ? "pressed" : "", state ? "" : "absent"];
    attribute(element, "class", ["part", ...marks].filter(Boolean).join(" "));
  };
  return { element, update };
}

