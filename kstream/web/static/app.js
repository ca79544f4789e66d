// The page: asks for the token, keeps the connection, and gives each section what it shows.

import { Actions } from "./actions.js";
import { Api, Refused } from "./api.js";
import { Curves } from "./charts.js";
import { attribute, text } from "./dom.js";
import { bytes, clock, count, duration, percent, rate } from "./format.js";
import { DeadLetters } from "./letters.js";
import { Heading, Reasons, Tiles } from "./overview.js";
import { Checkpoints, Errors, Instances, Restore, Savepoints, Settings, Snapshots, Stores, Workers } from "./sections.js";
import { Tasks } from "./tasks.js";
import { themeButton } from "./theme.js";
import { Topology } from "./topology.js";

const POINTS = 600;
const SILENCE = 5_000; // ms without an event, of which one should come each second
const LONGEST_PAUSE = 15_000;

const find = (id) => document.getElementById(id);
const body = (id) => find(id).querySelector(".body");

const api = new Api();
const state = { status: null, instances: [], points: [], settings: [], lost: null };
const toast = find("toast");

function say(words) {
  text(toast, words);
  toast.classList.add("shown");
  clearTimeout(say.timer);
  say.timer = setTimeout(() => toast.classList.remove("shown"), 4_000);
}

const actions = new Actions(api, say);
const heading = new Heading(find("heading"), [...actions.buttons, themeButton()]);
const reasons = new Reasons(find("reasons"));
const tiles = new Tiles(find("tiles"));
const topology = new Topology(body("topology"));
const charts = [
  { title: "Throughput", format: (value) => `${rate(value)}/s`, least: 10, series: [
    { name: "one", label: "in", of: (point) => point.rate_in }, { name: "two", label: "out", of: (point) => point.rate_out },
    { name: "all-one", label: "in, all", app: true, of: (point) => point.app?.rate_in },
    { name: "all-two", label: "out, all", app: true, of: (point) => point.app?.rate_out }] },
  { title: "Age at commit", format: duration, least: 0.01, series: [
    { name: "one", label: "median", of: (point) => point.latency_p50 }, { name: "two", label: "p99", of: (point) => point.latency_p99 }] },
  { title: "Lag", format: count, least: 10, series: [
    { name: "one", label: "records", of: (point) => point.lag },
    { name: "all-one", label: "all instances", app: true, of: (point) => point.app?.lag }] },
  { title: "Load", format: percent, most: 1, series: [
    { name: "busy", label: "busy", of: (point) => point.busy }, { name: "back", label: "backpressured", of: (point) => point.backpressured }] },
  { title: "State, about", format: bytes, series: [{ name: "size", label: "size", of: (point) => point.state_bytes }] },
  { title: "Entries of state", format: count, series: [{ name: "entries", label: "entries", of: (point) => point.state_entries }] },
].map((one) => new Curves(body("curves"), one));
const tasks = new Tasks(body("tasks"));
const checkpoints = new Checkpoints(body("checkpoints"));
const snapshots = new Snapshots(find("snapshots"));
const savepoints = new Savepoints(find("savepoints"), say);
const workers = new Workers(body("workers"));
const stores = new Stores(body("stores"));
const restore = new Restore(find("restoring"));
const errors = new Errors(body("failures"));
const letters = new DeadLetters(find("dead-letters"), find("letters-link"), api);
const instances = new Instances(body("instances"));
const settings = new Settings(body("settings"));

/** This instance as of now, the others as they announced themselves. */
function everybody() {
  const { status } = state;
  return [status, ...state.instances.filter((one) => one.instance !== status.instance)];
}

function showStatus() {
  const { status } = state;
  const all = everybody();
  heading.update(status, all);
  reasons.update(status);
  actions.update(status);
  tiles.update(status, all);
  topology.update(status);
  tasks.update(all, status.instance);
  for (const section of [checkpoints, snapshots, savepoints, workers, stores, restore, errors]) section.update(status);
  instances.update(all, status.instance);
}

function showPoints() {
  for (const chart of charts) chart.update(state.points);
}

const heard = {
  status(status) {
    state.status = status;
    state.heardAt = Date.now();
    if (!document.hidden) showStatus();
    if (state.lost !== null) connected();
  },
  instances(list) {
    state.instances = list;
  },
  point(point) {
    const last = state.points.at(-1);
    if (last && point.at <= last.at) return;
    state.points = [...state.points, point].slice(-POINTS);
    if (!document.hidden) showPoints();
  },
};

function connected() {
  state.lost = null;
  attribute(find("lost"), "hidden", true);
  text(heading.connection, "live");
  attribute(heading.connection, "class", "connection live");
  document.body.classList.remove("stale");
  actions.enable(true);
}

function disconnected(error, pause) {
  state.lost = error.message;
  const data = state.status ? `, data of ${clock(state.status.at)}` : "";
  text(find("lost-words"), `Connection lost${data}. It is tried again in ${Math.ceil(pause / 1000)} s.`);
  attribute(find("lost"), "hidden", false);
  attribute(find("lost"), "title", error.message);
  text(heading.connection, "connection lost");
  attribute(heading.connection, "class", "connection gone");
  document.body.classList.add("stale");
  actions.enable(false);
}

async function load() {
  const [graph, points, list, known] = await Promise.all(
    ["/api/graph", "/api/history", "/api/instances", "/api/settings"].map((path) => api.get(path)),
  );
  Object.assign(state, { points: points.slice(-POINTS), instances: list, settings: known, status: list[0], heardAt: Date.now() });
  find("page").hidden = false;
  topology.draw(graph);
  settings.update(known);
  letters.read(); // beside the rest: it asks Kafka
  showStatus();
  showPoints();
}

/** Reads events until they end, or none comes for a while: a connection may die without a word. */
async function listen() {
  const stop = new AbortController();
  const watch = setInterval(() => Date.now() - state.heardAt > SILENCE && stop.abort(new Error("nothing was heard")), 1_000);
  try {
    await api.events(stop.signal, (event, data) => heard[event]?.(data));
  } finally {
    clearInterval(watch);
  }
}

let hurry = () => {};
const rest = (ms) => new Promise((done) => ((hurry = done), setTimeout(done, ms)));

async function run() {
  for (let failures = 0; ; ) {
    try {
      await load();
      connected();
      const since = Date.now();
      await listen().finally(() => (failures = Date.now() - since > 10_000 ? 0 : failures));
    } catch (error) {
      if (error instanceof Refused) return askToken(api.token ? error.message : "");
      failures += 1;
      const pause = Math.min(LONGEST_PAUSE, 1_000 * 2 ** (failures - 1)) * (0.8 + 0.4 * Math.random());
      disconnected(error, pause);
      await rest(pause);
    }
  }
}

function askToken(problem) {
  find("page").hidden = true;
  attribute(find("lost"), "hidden", true);
  const form = find("token-form");
  form.hidden = false;
  text(find("token-problem"), problem);
  find("token").focus();
  form.onsubmit = (event) => {
    event.preventDefault();
    api.setToken(find("token").value.trim());
    find("token").value = "";
    form.hidden = true;
    run();
  };
}

find("again").addEventListener("click", () => hurry());
document.addEventListener("visibilitychange", () => {
  if (document.hidden || !state.status) return;
  showStatus();
  showPoints();
});
window.addEventListener("hashchange", () => {
  if (location.hash.startsWith("#token=")) location.reload();
});

if (api.token) run();
else askToken("");
