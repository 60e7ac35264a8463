/** Buttons that run commands, with their keys in their tooltips, and what they show. */

import { byId, setText } from "./dom";
import { keyOf, type Command } from "./keys";
import { shown } from "./state";
import type { Theme } from "./theme";
import type { Visit } from "./visit";

export type Tool = "click" | "brush" | "eraser";

/** Makes every `data-command` button run its command. */
export function wire(run: (command: Command) => void): void {
  for (const button of document.querySelectorAll<HTMLButtonElement>("button[data-command]")) {
    const command = button.dataset["command"] as Command;
    const key = keyOf(command);
    const name = button.getAttribute("aria-label") ?? button.textContent?.trim() ?? "";
    if (key !== null && button.querySelector("kbd") === null) button.title = `${name} (${key})`;
    button.addEventListener("click", (event) => {
      run(command);
      // After a click with the mouse the keys belong to the picture again.
      if (event.detail > 0) byId("stage").focus({ preventScroll: true });
    });
  }
}

/** Shows tools, history and the mask in the making. */
export function showTools(
  visit: Visit | null,
  tool: Tool,
  brushSize: number,
  isListShown: boolean,
  isLow: boolean,
): void {
  for (const name of ["click", "brush", "eraser"] as const) press(`tool-${name}`, tool === name);
  press("list", isListShown);
  setText(byId("brush-size"), String(brushSize));
  enable("undo", visit?.canUndo === true);
  enable("redo", visit?.canRedo === true);
  for (const command of ["submit", "skip"] as const) enable(command, visit !== null);
  const complete = byId<HTMLInputElement>("complete");
  complete.disabled = visit === null;
  complete.checked = visit?.answer.complete === true;
  showMaking(visit, isLow);
}

/** The buttons of the mask in the making, out of the way of where it began. */
function showMaking(visit: Visit | null, isLow: boolean): void {
  const making = visit?.making ?? null;
  const group = byId("making");
  if (group.hidden) group.classList.toggle("above", isLow);
  group.hidden = making === null;
  if (making === null) return;
  const isAmbiguous = making.choices.length > 1;
  for (const [index, command] of (["whole", "part", "subpart"] as const).entries()) {
    press(command, isAmbiguous && making.chosen === index);
    enable(command, isAmbiguous);
  }
  const iou = shown(making)?.iou ?? null;
  const note = making.drawn ? "drawn" : iou === null ? "" : `${Math.round(iou * 100)} % sure`;
  setText(byId("making-note"), note);
}

export function showZoom(scale: number): void {
  setText(byId("zoom"), `${scale < 0.1 ? (scale * 100).toFixed(1) : Math.round(scale * 100)} %`);
}

export function showTheme(theme: Theme): void {
  setText(byId("theme-name"), { system: "System", light: "Light", dark: "Dark" }[theme]);
}

function buttons(command: Command): Iterable<HTMLButtonElement> {
  return document.querySelectorAll<HTMLButtonElement>(`button[data-command="${command}"]`);
}

function press(command: Command, isPressed: boolean): void {
  for (const button of buttons(command)) button.setAttribute("aria-pressed", String(isPressed));
}

function enable(command: Command, isEnabled: boolean): void {
  for (const button of buttons(command)) button.disabled = !isEnabled;
}
