/** Light, dark, or as the system has it; remembered in this browser. */

export type Theme = "system" | "light" | "dark";

const KEY = "maskloop.theme";
const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };

/** Uses what was chosen last; returns it. */
export function applyTheme(): Theme {
  const kept = localStorage.getItem(KEY);
  return use(kept === "light" || kept === "dark" ? kept : "system");
}

/** From one to the next; returns the new one. */
export function nextTheme(): Theme {
  const theme = NEXT[applyTheme()];
  localStorage.setItem(KEY, theme);
  return use(theme);
}

function use(theme: Theme): Theme {
  if (theme === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
  return theme;
}
