/** Questions and the list of keys, as modal dialogs: the browser keeps the focus inside. */

import { byId, element } from "./dom";
import { GROUPS, keyName, POINTER } from "./keys";

export interface Option<T> {
  readonly text: string;
  readonly value: T;
  readonly isMain?: boolean;
}

/** Asks; null when the question is left with Esc. */
export function ask<T>(
  title: string,
  text: string,
  options: readonly Option<T>[],
): Promise<T | null> {
  return new Promise((resolve) => {
    let answer: T | null = null;
    const dialog = opened(title, element("p", {}, text));
    const buttons = options.map((option) => {
      const button = element(
        "button",
        { type: "button", class: option.isMain === true ? "main" : "" },
        option.text,
      );
      button.addEventListener("click", () => {
        answer = option.value;
        dialog.close();
      });
      return button;
    });
    dialog.append(element("div", { class: "choices" }, ...buttons));
    dialog.addEventListener("close", () => [dialog.remove(), resolve(answer)]);
    dialog.showModal();
    (buttons.find((button) => button.classList.contains("main")) ?? buttons[0])?.focus();
  });
}

/** Asks for a name; resolves only when one of the allowed form is given. */
export function askName(pattern: string): Promise<string> {
  return new Promise((resolve) => {
    const field = element("input", {
      id: "who",
      name: "who",
      required: true,
      pattern,
      maxlength: "64",
      autocomplete: "username",
    });
    const label = element("label", { for: "who" }, "Your name");
    const note = element(
      "p",
      { class: "quiet" },
      "1 to 64 letters, digits, spaces or . _ @ -; it is kept with your masks.",
    );
    const form = element(
      "form",
      { method: "dialog" },
      label,
      field,
      note,
      element("div", { class: "choices" }, element("button", { class: "main" }, "Start")),
    );
    const dialog = opened("Who works here?", form);
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    form.addEventListener("submit", () => resolve(field.value.trim()));
    dialog.addEventListener("close", () => dialog.remove());
    dialog.showModal();
    field.focus();
  });
}

/** The list of keys. */
export function showKeys(): void {
  const body = byId("keys-list");
  if (body.childElementCount === 0)
    body.append(
      ...GROUPS.map(({ name, bindings }) => group(name, merged(bindings))),
      group("Mouse, pen and fingers", POINTER),
    );
  const dialog = byId<HTMLDialogElement>("keys");
  if (dialog.open) return;
  dialog.showModal();
  dialog.scrollTop = 0;
}

/** Keys without a text of their own belong to the one before. */
function merged(
  bindings: (typeof GROUPS)[number]["bindings"],
): readonly (readonly [string, string])[] {
  const rows: [string, string][] = [];
  for (const { keys, text } of bindings) {
    const names = keys.map(keyName).join(", ");
    const last = rows.at(-1);
    if (text === "" && last !== undefined) last[0] += `, ${names}`;
    else rows.push([names, text]);
  }
  return rows;
}

function group(name: string, rows: readonly (readonly [string, string])[]): HTMLElement {
  const list = element("dl", { class: "keys" });
  for (const [keys, text] of rows) {
    const caps = keys.split(", ").map((key) => element("kbd", {}, key));
    list.append(element("div", {}, element("dt", {}, ...caps), element("dd", {}, text)));
  }
  return element("section", {}, element("h3", {}, name), list);
}

function opened(title: string, ...content: HTMLElement[]): HTMLDialogElement {
  const heading = element("h2", { id: "asked" }, title);
  const dialog = element("dialog", { "aria-labelledby": "asked" }, heading, ...content);
  document.body.append(dialog);
  return dialog;
}
