// The keyboard: digits choose a view, / searches, t changes the theme, Escape leaves the search.

import { nextTheme, show, VIEWS } from "./preferences";

export function listen(): void {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
    if (typing) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (act(event.key)) event.preventDefault();
  });
}

function act(key: string): boolean {
  const chosen = VIEWS[Number(key) - 1];
  if (chosen !== undefined) {
    show(chosen);
    return true;
  }
  if (key === "t") {
    nextTheme();
    return true;
  }
  if (key === "/") {
    document.querySelector<HTMLInputElement>("input[type=search]")?.focus();
    return true;
  }
  return false;
}
