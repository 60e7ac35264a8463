import { readFileSync } from "node:fs";

import { describe, expect, it } from "vitest";

import { commandFor, GROUPS, keyName, POINTER } from "./keys";

const press = (key: string, ...held: ("ctrl" | "shift" | "alt" | "meta")[]) =>
  commandFor({
    key,
    ctrlKey: held.includes("ctrl"),
    shiftKey: held.includes("shift"),
    altKey: held.includes("alt"),
    metaKey: held.includes("meta"),
  });

describe("keys", () => {
  it("gives no key to two commands", () => {
    const keys = GROUPS.flatMap(({ bindings }) => bindings.flatMap((one) => one.keys));
    expect(new Set(keys).size).toBe(keys.length);
  });

  it.each([
    ["Enter", "accept-mask"],
    ["n", "accept-mask"],
    ["Escape", "cancel"],
    ["Delete", "delete"],
    ["f", "next-image"],
    ["d", "previous-image"],
    ["b", "tool-brush"],
    ["e", "tool-eraser"],
    ["[", "smaller"],
    ["]", "larger"],
    [" ", "hide"],
    ["Tab", "next-proposal"],
    ["a", "accept"],
    ["r", "reject"],
    ["1", "whole"],
    ["2", "part"],
    ["3", "subpart"],
    ["?", "help"],
    ["m", "list"],
    ["s", "skip"],
  ])("has %s as people know it", (key, command) => {
    expect(press(key)).toBe(command);
  });

  it("tells keys that are held with others", () => {
    expect(press("Tab", "shift")).toBe("previous-proposal");
    expect(press("z", "ctrl")).toBe("undo");
    expect(press("y", "ctrl")).toBe("redo");
    expect(press("Z", "ctrl", "shift")).toBe("redo");
    expect(press("z", "meta")).toBe("undo");
    expect(press("Enter", "ctrl")).toBe("submit");
    expect(press("?", "shift")).toBe("help");
    expect(press("+", "shift")).toBe("zoom-in");
  });

  it("leaves the browser its own", () => {
    for (const key of ["a", "r", "f", "n", "d", "s", "c"])
      expect(press(key, "ctrl"), key).toBeNull();
    expect(press("d", "alt")).toBeNull();
  });

  it("means the same with Caps Lock on", () => {
    expect(press("A")).toBe("accept");
    expect(press("a", "shift")).toBe("accept-listed");
  });

  it("writes keys as people do", () => {
    expect(["Ctrl+Shift+Z", " ", "+", "ArrowLeft", "n"].map(keyName)).toEqual([
      "Ctrl + Shift + Z",
      "Space",
      "+",
      "←",
      "N",
    ]);
  });
});

it("is documented key by key", () => {
  const page = readFileSync(new URL("../../../../docs/annotating.md", import.meta.url), "utf8");
  for (const { bindings } of GROUPS) {
    for (const { keys, text } of bindings) {
      for (const key of keys) expect(page).toContain(`\`${keyName(key)}\``);
      if (text !== "") expect(page).toContain(`| ${text} |`);
    }
  }
  for (const [what, text] of POINTER) expect(page).toContain(`| ${what} | ${text} |`);
});
