// Pause, resume, log level, savepoint: each asks first, and says what came of it.

import { h, text } from "./dom.js";

const LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];

export class Actions {
  constructor(api, say) {
    Object.assign(this, { api, say });
    this.pause = h("button", { type: "button", id: "pause", onclick: () => this.askPause() }, "Pause");
    this.level = h("button", { type: "button", id: "log-level", onclick: () => this.askLevel() }, "Log level");
    this.savepoint = h("button", { type: "button", id: "savepoint", onclick: () => this.askSavepoint() }, "Savepoint");
    this.buttons = [this.pause, this.level, this.savepoint];
    this.status = null;
  }

  update(status) {
    this.status = status;
    text(this.pause, status.paused ? "Resume" : "Pause");
    text(this.level, `Log level: ${status.log_level}`);
  }

  enable(on) {
    for (const button of this.buttons) button.disabled = !on;
  }

  askPause() {
    const { paused, instance } = this.status;
    this.ask(
      paused ? `Resume ${instance}?` : `Pause ${instance}?`,
      [h("p", {}, paused
        ? "Processing goes on where it was left."
        : "This instance stops processing. What was done is committed, and its partitions stay its own, so their lag grows until it is resumed.")],
      paused ? "Resume" : "Pause",
      async () => {
        await this.api.post(paused ? "/api/resume" : "/api/pause");
        return paused ? "Resumed." : "Paused.";
      },
    );
  }

  askLevel() {
    const level = h("select", { name: "level" }, ...LEVELS.map((one) => h("option", { selected: one === this.status.log_level }, one)));
    const logger = h("input", { name: "logger", placeholder: "all", autocomplete: "off", spellcheck: "false" });
    this.ask(
      "Change the log level?",
      [
        h("p", {}, "Holds for this instance and its workers until it is restarted."),
        h("label", {}, "Level", level),
        h("label", {}, "Logger, such as kstream.runtime (empty: all)", logger),
      ],
      "Change",
      async () => {
        await this.api.post("/api/log-level", { level: level.value, logger: logger.value.trim() || null });
        return `Log level of ${logger.value.trim() || "all"} is ${level.value}.`;
      },
    );
  }

  askSavepoint() {
    const name = h("input", { name: "name", placeholder: "the time", maxlength: 100, autocomplete: "off", spellcheck: "false" });
    const timeout = h("input", { name: "timeout", type: "number", min: 1, max: 3600, step: 1, value: 60, required: true });
    this.ask(
      `Make a savepoint of ${this.status.app}?`,
      [
        h("p", {}, "All instances hold their inputs until what is under way is finished and their state is copied: some seconds in which nothing new is processed. It is kept until somebody deletes it."),
        h("label", {}, "Name (empty: the time)", name),
        h("label", {}, "Seconds after which the app goes on without it", timeout),
      ],
      "Make it",
      async () => {
        const made = await this.api.post("/api/savepoints", { name: name.value.trim() || null, timeout: timeout.valueAsNumber });
        return `Savepoint ${made.name} is being made.`;
      },
    );
  }

  ask(title, content, verb, act) {
    const failed = h("p", { class: "failure", role: "alert" });
    const confirm = h("button", { type: "submit", class: "primary" }, verb);
    const form = h("form", { method: "dialog" },
      h("h2", { id: "asked" }, title), ...content, failed,
      h("div", { class: "row end" }, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), confirm));
    const dialog = h("dialog", { "aria-labelledby": "asked", onclose: () => dialog.remove() }, form);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      confirm.disabled = true;
      try {
        this.say(await act());
        dialog.close();
      } catch (error) {
        text(failed, error.message);
        confirm.disabled = false;
      }
    });
    document.body.append(dialog);
    dialog.showModal();
  }
}
