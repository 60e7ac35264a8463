/** Which key does what: one table for the keyboard, the tooltips and the list of keys. */

export type Command =
  | "accept-mask"
  | "cancel"
  | "add-here"
  | "remove-here"
  | "corner-here"
  | "crosshair"
  | "left"
  | "right"
  | "up"
  | "down"
  | "far-left"
  | "far-right"
  | "far-up"
  | "far-down"
  | "tool-click"
  | "tool-brush"
  | "tool-eraser"
  | "smaller"
  | "larger"
  | "whole"
  | "part"
  | "subpart"
  | "next-proposal"
  | "previous-proposal"
  | "accept"
  | "reject"
  | "delete"
  | "edit"
  | "accept-listed"
  | "confirm"
  | "find"
  | "confirm-listed"
  | "undo"
  | "redo"
  | "submit"
  | "next-image"
  | "previous-image"
  | "skip"
  | "complete"
  | "zoom-in"
  | "zoom-out"
  | "fit"
  | "hide"
  | "list"
  | "next-region"
  | "theme"
  | "help";

export interface Binding {
  readonly keys: readonly string[];
  readonly command: Command;
  readonly text: string;
}

export interface Group {
  readonly name: string;
  readonly bindings: readonly Binding[];
}

const bind = (command: Command, text: string, ...keys: string[]): Binding => ({
  command,
  text,
  keys,
});

/** Names of keys as KeyboardEvent.key has them, with Ctrl+ and Shift+ before. */
export const GROUPS: readonly Group[] = [
  {
    name: "Make a mask",
    bindings: [
      bind("accept-mask", "accept the mask in the making", "Enter", "n"),
      bind("cancel", "cancel it, or clear the selection", "Escape"),
      bind("whole", "take the whole", "1"),
      bind("part", "take the part", "2"),
      bind("subpart", "take the subpart", "3"),
      bind("find", "find masks by a text, where the model reads texts", "/"),
      bind("tool-click", "click tool", "v"),
      bind("tool-brush", "brush", "b"),
      bind("tool-eraser", "eraser", "e"),
      bind("smaller", "smaller brush", "["),
      bind("larger", "larger brush", "]"),
    ],
  },
  {
    name: "Decide on proposals",
    bindings: [
      bind("next-proposal", "next, from the least to the most certain", "Tab"),
      bind("previous-proposal", "the one before", "Shift+Tab"),
      bind("accept", "accept the selected", "a"),
      bind("confirm", "accept it with the suggested name", "y"),
      bind("reject", "reject it", "r"),
      bind("delete", "delete it", "Delete"),
      bind("edit", "take it up again, to correct it", "g"),
      bind("accept-listed", "accept all shown in the list, without suggested names", "Shift+A"),
      bind("confirm-listed", "accept those shown that have a suggested name, with it", "Shift+Y"),
    ],
  },
  {
    name: "Images",
    bindings: [
      bind("submit", "submit", "Ctrl+Enter"),
      bind("next-image", "submit and next image", "f"),
      bind("previous-image", "previous image, while it is still here", "d"),
      bind("skip", "skip: leave it for later or others", "s"),
      bind("complete", "every object has its mask: yes or no", "o"),
      bind("undo", "undo", "Ctrl+z"),
      bind("redo", "redo", "Ctrl+y", "Ctrl+Shift+Z"),
    ],
  },
  {
    name: "Look",
    bindings: [
      bind("zoom-in", "larger", "+", "="),
      bind("zoom-out", "smaller", "-"),
      bind("fit", "the whole picture", "0"),
      bind("hide", "hide masks while held", " "),
      bind("list", "show or hide the list of masks", "m"),
      bind("theme", "light, dark or as the system", "t"),
      bind("help", "this list", "?"),
    ],
  },
  {
    name: "Without a mouse",
    bindings: [
      bind("crosshair", "crosshair on the picture, on or off", "c"),
      bind("left", "move the crosshair, or the picture without it", "ArrowLeft"),
      bind("right", "", "ArrowRight"),
      bind("up", "", "ArrowUp"),
      bind("down", "", "ArrowDown"),
      bind("far-left", "the same in large steps", "Shift+ArrowLeft"),
      bind("far-right", "", "Shift+ArrowRight"),
      bind("far-up", "", "Shift+ArrowUp"),
      bind("far-down", "", "Shift+ArrowDown"),
      bind("add-here", "click at the crosshair: add, select, or dab with the brush", "x"),
      bind("remove-here", "remove at the crosshair", "Shift+X"),
      bind("corner-here", "first, then second corner of a box", "z"),
      bind("next-region", "from the picture to the tools, the list and back", "F6"),
    ],
  },
];

/** What the mouse does, for the list of keys. */
export const POINTER: readonly (readonly [string, string])[] = [
  ["left click", "add; on a mask: select it, then correct it"],
  ["right click, Shift + click", "remove"],
  ["Alt + click", "a new mask on top of another"],
  ["drag", "box around an object"],
  ["wheel, pinch", "zoom"],
  ["middle button, Space + drag, two fingers", "move the picture"],
];

const BY_KEY = new Map(
  GROUPS.flatMap((group) => group.bindings).flatMap((one) =>
    one.keys.map((key) => [key, one.command]),
  ),
);

/** What a key press means, null for nothing of ours. */
export function commandFor(
  event: Pick<KeyboardEvent, "key" | "ctrlKey" | "metaKey" | "shiftKey" | "altKey">,
): Command | null {
  if (event.altKey) return null;
  const isCommand = event.ctrlKey || event.metaKey;
  // With Caps Lock on, letters come in the other case.
  const isLetter = /^\p{L}$/u.test(event.key);
  const key = isLetter
    ? event.shiftKey
      ? event.key.toUpperCase()
      : event.key.toLowerCase()
    : event.key;
  const isShifted = event.shiftKey && (isLetter || event.key.length > 1);
  const name = `${isCommand ? "Ctrl+" : ""}${isShifted ? "Shift+" : ""}${key}`;
  return BY_KEY.get(name) ?? null;
}

const SHOWN: Readonly<Record<string, string>> = {
  " ": "Space",
  Escape: "Esc",
  ArrowLeft: "←",
  ArrowRight: "→",
  ArrowUp: "↑",
  ArrowDown: "↓",
};

/** A key as people write it. */
export function keyName(key: string): string {
  const parts = key === "+" ? ["+"] : key.split("+");
  return parts
    .map((part) => SHOWN[part] ?? (part.length === 1 ? part.toUpperCase() : part))
    .join(" + ");
}

/** The first key of a command, for tooltips. */
export function keyOf(command: Command): string | null {
  for (const { bindings } of GROUPS) {
    const found = bindings.find((one) => one.command === command)?.keys[0];
    if (found !== undefined) return keyName(found);
  }
  return null;
}
