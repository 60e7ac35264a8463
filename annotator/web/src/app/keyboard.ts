/** Hears the keyboard and says which command is meant, leaving fields, buttons and dialogs their keys. */

import { commandFor, type Command } from "./keys";

export interface Listener {
  run(command: Command): void;
  /** Space goes down or up. */
  hide(hidden: boolean): void;
}

/** Keys that buttons and lists need themselves. */
const OWN_KEYS = new Set<Command>([
  "accept-mask",
  "hide",
  "next-proposal",
  "previous-proposal",
  "left",
  "right",
  "up",
  "down",
]);
/** Keys that may be held down. */
const REPEATING = new Set<Command>([
  "next-proposal",
  "previous-proposal",
  "undo",
  "redo",
  "zoom-in",
  "zoom-out",
  "smaller",
  "larger",
  "left",
  "right",
  "up",
  "down",
  "far-left",
  "far-right",
  "far-up",
  "far-down",
]);

export function listen(stage: HTMLElement, listener: Listener): void {
  let isHidden = false;
  const hide = (hidden: boolean): void => {
    if (hidden !== isHidden) listener.hide((isHidden = hidden));
  };
  window.addEventListener("keydown", (event) => {
    const command = commandFor(event);
    if (command === null || !isOurs(event, command, stage)) return;
    event.preventDefault();
    if (command === "hide") hide(true);
    else if (!event.repeat || REPEATING.has(command)) listener.run(command);
  });
  window.addEventListener("keyup", (event) => event.key === " " && hide(false));
  window.addEventListener("blur", () => hide(false));
}

function isOurs(event: KeyboardEvent, command: Command, stage: HTMLElement): boolean {
  if (document.querySelector("dialog[open]") !== null) return false;
  const target = event.target;
  if (!(target instanceof HTMLElement) || target === document.body || target === stage) return true;
  if (command === "submit") return true;
  if (target.matches("input:not([type=checkbox]), select, textarea"))
    return command === "next-region";
  return !OWN_KEYS.has(command);
}
