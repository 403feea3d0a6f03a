// What the reader chose: theme, view, search and the token. The token stays in this tab.

import { effect, signal } from "@preact/signals";

export const VIEWS = ["overview", "ports", "connections", "services", "topology", "timeline"] as const;
export type View = (typeof VIEWS)[number];
export type Theme = "auto" | "light" | "dark";

const THEMES: readonly Theme[] = ["auto", "light", "dark"];
const dark = matchMedia("(prefers-color-scheme: dark)");

export const view = signal<View>(viewOf(location.hash));
export const theme = signal<Theme>(THEMES.find((known) => known === localStorage.getItem("theme")) ?? "auto");
export const search = signal("");
export const token = signal(sessionStorage.getItem("token") ?? "");
/** What is in force, also when the system decides. */
export const shownTheme = signal<"light" | "dark">("light");

/** Begins to follow the address bar, the system's theme and the choices. */
export function start(): void {
  addEventListener("hashchange", () => {
    [view.value, search.value] = [viewOf(location.hash), ""];
  });
  dark.addEventListener("change", apply);
  effect(apply);
  effect(() => {
    sessionStorage.setItem("token", token.value);
  });
}

export function show(next: View): void {
  location.hash = next;
}

export function nextTheme(): void {
  theme.value = shownTheme.value === "dark" ? "light" : "dark";
  localStorage.setItem("theme", theme.value);
}

function apply(): void {
  shownTheme.value = theme.value === "auto" ? (dark.matches ? "dark" : "light") : theme.value;
  document.documentElement.dataset.theme = shownTheme.value;
}

function viewOf(hash: string): View {
  return VIEWS.find((known) => `#${known}` === hash) ?? "overview";
}
