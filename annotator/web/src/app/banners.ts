/** Says plainly what happened and what to do, above the picture, until it is over. */

import { byId, element } from "./dom";

export interface Choice {
  readonly text: string;
  readonly run: () => void;
}

export type Tone = "info" | "warning" | "problem";

const shown = new Map<string, HTMLElement>();

/** Shows or replaces the banner `name`. */
export function banner(name: string, tone: Tone, text: string, ...choices: Choice[]): void {
  const buttons = choices.map(({ text: label, run }) => {
    const button = element("button", { type: "button", class: "small" }, label);
    button.addEventListener("click", run);
    return button;
  });
  const role = tone === "info" ? "status" : "alert";
  const made = element(
    "div",
    { class: `banner ${tone}`, role, "data-banner": name },
    element("p", {}, text),
    ...buttons,
  );
  const before = shown.get(name);
  if (
    before?.querySelector("p")?.textContent === text &&
    before.classList.contains(tone) &&
    buttons.length === 0
  )
    return;
  if (before === undefined) byId("banners").append(made);
  else before.replaceWith(made);
  shown.set(name, made);
}

/** It is over. */
export function clearBanner(name: string): void {
  shown.get(name)?.remove();
  shown.delete(name);
}
