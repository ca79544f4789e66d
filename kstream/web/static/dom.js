// Making and changing elements. Data only ever becomes text nodes and attributes set here: never markup.

import { cut } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** An HTML element; `on…` attributes are listeners, strings become text. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Sets text, only when it changed: thousands of cells are looked at each second. */
export function text(node, value) {
  const wanted = value === null || value === undefined ? "" : String(value);
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** Sets or removes an attribute, only when it changed. */
export function attribute(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
}

/** A shown number with the exact one beside it, for machines: <data value="12345.6">12.3k</data>. */
export function number(node, value, shown) {
  attribute(node, "value", value === null || value === undefined ? "" : value);
  text(node, shown);
}

/** A name, cut in its middle where it is long; whole in its title. */
export function name(node, words) {
  text(node, cut(words, 36));
  attribute(node, "title", words);
}

/** Keeps `parent`'s children in step with `items`: one for each key, made once, updated each time, in their order. */
export function keyed(parent, items, key, make, update) {
  const known = (parent.keyedChildren ??= new Map());
  const wanted = new Set();
  let place = parent.firstChild;
  for (const item of items) {
    const id = key(item);
    if (wanted.has(id)) continue;
    wanted.add(id);
    let child = known.get(id);
    if (!child) known.set(id, (child = make(item)));
    update(child, item);
    if (child === place) place = place.nextSibling;
    else parent.insertBefore(child, place);
  }
  for (const [id, child] of known) {
    if (!wanted.has(id)) {
      child.remove();
      known.delete(id);
    }
  }
}

/** A stacked bar of busy and backpressured shares (0..1). */
export function loadBar() {
  return h("span", { class: "load", role: "img" }, h("i", { class: "busy" }), h("i", { class: "back" }));
}

export function setLoad(bar, busy, backpressured) {
  const label = `busy ${Math.round(busy * 100)}%, backpressured ${Math.round(backpressured * 100)}%`;
  if (bar.getAttribute("aria-label") === label) return;
  bar.setAttribute("aria-label", label);
  bar.title = label;
  bar.children[0].style.setProperty("width", `${Math.min(100, busy * 100)}%`);
  bar.children[1].style.setProperty("width", `${Math.min(100, backpressured * 100)}%`);
}

/** A word in a coloured pill; the tone says good, warn, bad or calm. */
export function badge(node, word, tone) {
  text(node, word);
  attribute(node, "class", `badge ${tone}`);
}

export const TONES = {
  running: "good", starting: "warn", restoring: "warn", restarting: "bad", degraded: "bad", paused: "warn",
  stopping: "warn", stopped: "bad", silent: "bad", failed: "bad", suspended: "warn", making: "warn", made: "good", created: "calm", closed: "calm",
};
