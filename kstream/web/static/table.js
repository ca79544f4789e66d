// A table that sorts by its headings and can be filtered; rows are kept, only what changed is written.

import { attribute, h, keyed, text } from "./dom.js";

const collator = new Intl.Collator("en", { numeric: true });

function compare(a, b) {
  const [left, right] = [a ?? null, b ?? null];
  if (left === null || right === null) return (left === null ? 1 : 0) - (right === null ? 1 : 0);
  return typeof left === "number" && typeof right === "number" ? left - right : collator.compare(String(left), String(right));
}

export class Table {
  /**
   * `columns`: [{id, label, numeric, title, value: row => what is sorted by, show: (cell, row) => fills it}].
   * `key`: row => a string; `sort`: [column id, descending]; `empty`: the words when there is no row.
   */
  constructor({ columns, key, sort, empty, label, mark = () => "" }) {
    Object.assign(this, { columns, key, empty, mark, rows: [], keep: () => true });
    [this.by, this.down] = [columns.find((one) => one.id === sort[0]), sort[1] ?? false];
    this.headings = columns.map((column) =>
      h("th", { scope: "col", class: column.numeric ? "numeric" : null },
        h("button", { type: "button", title: column.title, onclick: () => this.sortBy(column) }, column.label)));
    this.body = h("tbody", {});
    this.none = h("p", { class: "none" });
    this.table = h("table", { "aria-label": label }, h("thead", {}, h("tr", {}, ...this.headings)), this.body);
    this.element = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, this.table, this.none);
    this.draw();
  }

  sortBy(column) {
    this.down = this.by === column ? !this.down : Boolean(column.numeric);
    this.by = column;
    this.draw();
  }

  update(rows) {
    this.rows = rows;
    this.draw();
  }

  filter(keep) {
    this.keep = keep;
    this.draw();
  }

  draw() {
    this.headings.forEach((heading, at) => {
      const sorted = this.columns[at] === this.by;
      attribute(heading, "aria-sort", sorted ? (this.down ? "descending" : "ascending") : null);
    });
    const { value } = this.by;
    // what has no value comes last, whichever way
    const turned = (a, b) => ((value(a) ?? null) === null || (value(b) ?? null) === null ? 1 : this.down ? -1 : 1);
    const shown = this.rows.filter(this.keep);
    shown.sort((a, b) => compare(value(a), value(b)) * turned(a, b) || collator.compare(this.key(a), this.key(b)));
    const make = () => h("tr", {}, ...this.columns.map((column) => h("td", { class: column.numeric ? "numeric" : column.class })));
    keyed(this.body, shown, this.key, make, (row, item) => {
      attribute(row, "class", this.mark(item) || null);
      this.columns.forEach((column, at) => {
        const cell = row.children[at];
        if (column.show) column.show(cell, item);
        else text(cell, column.value(item));
      });
    });
    this.shown = shown.length;
    text(this.none, shown.length ? "" : this.rows.length ? "Nothing fits the filter." : this.empty);
    this.none.hidden = shown.length > 0;
  }
}
