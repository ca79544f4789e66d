// A layered drawing of a directed graph, left to right (Sugiyama): layers by longest path, long edges through lanes of
// their own, few crossings by barycentres, heights by averages that keep the order.

/**
 * `nodes`: [{id, width, height, last?}], `edges`: [{id, source, target}]; `last` puts a node into the last layer.
 * Gives {width, height, at: id -> {x, y} (top left), lanes: edge id -> [{x, y, width}]}: what an edge passes on its way.
 */
export function layered(nodes, edges, gapX, gapY) {
  const laid = { width: 0, height: 0, at: new Map(), lanes: new Map() };
  for (const some of connected(nodes, edges)) {
    const ids = new Set(some.map((node) => node.id));
    const one = drawn(some, edges.filter((edge) => ids.has(edge.source) && ids.has(edge.target)), gapX, gapY);
    const top = laid.height ? laid.height + 1.6 * gapY : 0; // what does not hang together is stacked
    const lower = (point) => ({ ...point, y: point.y + top });
    for (const [id, point] of one.at) laid.at.set(id, lower(point));
    for (const [id, passed] of one.lanes) laid.lanes.set(id, passed.map(lower));
    laid.width = Math.max(laid.width, one.width);
    laid.height = top + one.height;
  }
  return laid;
}

/** The nodes, in groups that hang together. */
function connected(nodes, edges) {
  const group = new Map(nodes.map((node) => [node.id, [node]]));
  for (const { source, target } of edges) {
    const [one, other] = [group.get(source), group.get(target)];
    if (!one || !other || one === other) continue;
    one.push(...other);
    for (const node of other) group.set(node.id, one);
  }
  return new Set(group.values());
}

function drawn(nodes, edges, gapX, gapY) {
  const known = new Map(nodes.map((node) => [node.id, { ...node, real: true, into: [], out: [] }]));
  const forward = withoutCycles(known, edges.filter((edge) => edge.source !== edge.target));
  const layerOf = layers(known, forward);
  const { columns, lanes } = withLanes(known, forward, layerOf);
  order(columns);
  const centres = heights(columns, gapY);
  return place(columns, centres, lanes, gapX);
}

function withoutCycles(known, edges) {
  const out = new Map([...known.keys()].map((id) => [id, []]));
  for (const edge of edges) if (known.has(edge.source) && known.has(edge.target)) out.get(edge.source).push(edge);
  const state = new Map();
  const forward = [];
  const visit = (id) => {
    state.set(id, "open");
    for (const edge of out.get(id)) {
      const back = state.get(edge.target) === "open";
      forward.push(back ? { ...edge, source: edge.target, target: edge.source, back } : edge);
      if (!state.has(edge.target)) visit(edge.target);
    }
    state.set(id, "done");
  };
  const targets = new Set(edges.map((edge) => edge.target));
  for (const id of known.keys()) if (!targets.has(id) && !state.has(id)) visit(id);
  for (const id of known.keys()) if (!state.has(id)) visit(id);
  return forward;
}

function layers(known, forward) {
  const layer = new Map([...known.keys()].map((id) => [id, 0]));
  for (let round = 0, moved = true; moved && round <= known.size; round += 1) {
    moved = false;
    for (const { source, target } of forward) {
      if (layer.get(target) <= layer.get(source)) {
        layer.set(target, layer.get(source) + 1);
        moved = true;
      }
    }
  }
  const deepest = Math.max(0, ...layer.values());
  for (const node of known.values()) if (node.last) layer.set(node.id, deepest);
  // what nothing leads to moves next to what it leads to, so that its edges are short
  for (const node of known.values()) {
    const targets = forward.filter((edge) => edge.source === node.id).map((edge) => layer.get(edge.target));
    if (!node.first && targets.length && !forward.some((edge) => edge.target === node.id)) {
      layer.set(node.id, Math.min(...targets) - 1);
    }
  }
  return layer;
}

function withLanes(known, forward, layerOf) {
  const columns = [];
  const put = (node, layer) => (columns[layer] ??= []).push(node);
  for (const node of known.values()) put(node, layerOf.get(node.id));
  const lanes = new Map();
  for (const edge of forward) {
    const passed = [];
    let before = known.get(edge.source);
    for (let layer = layerOf.get(edge.source) + 1; layer < layerOf.get(edge.target); layer += 1) {
      const lane = { id: `${edge.id}@${layer}`, width: 0, height: 10, real: false, into: [], out: [] };
      put(lane, layer);
      passed.push(lane);
      link(before, lane);
      before = lane;
    }
    link(before, known.get(edge.target));
    lanes.set(edge.id, edge.back ? passed.reverse() : passed);
  }
  return { columns: [...columns].map((column) => column ?? []), lanes };
}

function link(source, target) {
  source.out.push(target);
  target.into.push(source);
}

function order(columns) {
  const places = () => new Map(columns.flatMap((column) => column.map((node, at) => [node, at])));
  const sweep = (side, from) => {
    const place = places();
    for (const column of from) {
      const mean = new Map(column.map((node) => [node, average(node[side].map((other) => place.get(other)), place.get(node))]));
      column.sort((a, b) => mean.get(a) - mean.get(b));
      column.forEach((node, at) => place.set(node, at));
    }
  };
  let best = columns.map((column) => [...column]);
  let least = crossings(columns);
  for (let round = 0; round < 8 && least > 0; round += 1) {
    sweep("into", columns);
    sweep("out", [...columns].reverse());
    const now = crossings(columns);
    if (now < least) [least, best] = [now, columns.map((column) => [...column])];
  }
  best.forEach((column, at) => columns.splice(at, 1, column));
}

function crossings(columns) {
  let found = 0;
  for (let at = 1; at < columns.length; at += 1) {
    const place = new Map(columns[at].map((node, index) => [node, index]));
    const ends = columns[at - 1].flatMap((node) => node.out.map((other) => place.get(other)).sort((a, b) => a - b));
    for (let i = 0; i < ends.length; i += 1) for (let j = i + 1; j < ends.length; j += 1) if (ends[i] > ends[j]) found += 1;
  }
  return found;
}

const average = (values, otherwise) => (values.length ? values.reduce((sum, one) => sum + one, 0) / values.length : otherwise);

function heights(columns, gapY) {
  const centre = new Map();
  for (const column of columns) settle(column, column.map(() => 0), centre, gapY);
  for (let round = 0; round < 12; round += 1) {
    const side = round % 2 ? "out" : "into";
    for (const column of round % 2 ? [...columns].reverse() : columns) {
      const wanted = column.map((node) => {
        const near = node[side].length ? node[side] : node[side === "into" ? "out" : "into"];
        return average(near.map((other) => centre.get(other)), centre.get(node));
      });
      settle(column, wanted, centre, gapY);
    }
  }
  return centre;
}

/** The centres nearest to those wanted that keep order and gaps (isotonic regression, by pooling neighbours). */
function settle(column, wanted, centre, gapY) {
  let offset = 0;
  const offsets = column.map((node, at) => {
    if (at) offset += (column[at - 1].height + node.height) / 2 + gapY;
    return offset;
  });
  const pools = [];
  column.forEach((_, at) => {
    pools.push({ sum: wanted[at] - offsets[at], size: 1 });
    while (pools.length > 1) {
      const [a, b] = pools.slice(-2);
      if (a.sum / a.size <= b.sum / b.size) break;
      pools.splice(-2, 2, { sum: a.sum + b.sum, size: a.size + b.size });
    }
  });
  let at = 0;
  for (const pool of pools) {
    for (let n = 0; n < pool.size; n += 1, at += 1) centre.set(column[at], pool.sum / pool.size + offsets[at]);
  }
}

function place(columns, centre, lanes, gapX) {
  const all = columns.flat();
  const top = Math.min(...all.map((node) => centre.get(node) - node.height / 2));
  const at = new Map();
  const laneAt = new Map();
  let x = 0;
  for (const column of columns) {
    const width = Math.max(0, ...column.map((node) => node.width));
    for (const node of column) {
      const y = centre.get(node) - top;
      if (node.real) at.set(node.id, { x: x + (width - node.width) / 2, y: y - node.height / 2 });
      else laneAt.set(node, { x, y, width });
    }
    x += width + gapX;
  }
  const height = Math.max(0, ...all.map((node) => centre.get(node) - top + node.height / 2));
  const passed = new Map([...lanes].map(([id, some]) => [id, some.map((lane) => laneAt.get(lane))]));
  return { width: Math.max(0, x - gapX), height, at, lanes: passed };
}
