// Light or dark: as the system says, until a choice is made here.

import { h } from "./dom.js";

const KEPT = "kstream-theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

const current = () => localStorage.getItem(KEPT) ?? (dark.matches ? "dark" : "light");

function apply() {
  const kept = localStorage.getItem(KEPT);
  if (kept) document.documentElement.dataset.theme = kept;
  else delete document.documentElement.dataset.theme;
}

/** A button that turns from one to the other; turned back to the system's, the choice is forgotten. */
export function themeButton() {
  const button = h("button", { type: "button", id: "theme", onclick: () => {
    const next = current() === "dark" ? "light" : "dark";
    if (next === (dark.matches ? "dark" : "light")) localStorage.removeItem(KEPT);
    else localStorage.setItem(KEPT, next);
    show();
  } });
  const show = () => {
    apply();
    const next = current() === "dark" ? "light" : "dark";
    button.textContent = next === "dark" ? "Dark" : "Light";
    button.title = `Show in ${next} colours`;
  };
  dark.addEventListener("change", show);
  show();
  return button;
}
