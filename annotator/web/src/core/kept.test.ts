import { expect, test } from "vitest";
import { Kept } from "./kept";

function counting(most: number) {
  const made: string[] = [];
  const dropped: string[] = [];
  const kept = new Kept<string>(most, (value) => dropped.push(value));
  const find = (key: string) =>
    kept.find(key, async () => {
      made.push(key);
      return key;
    });
  return { kept, made, dropped, find };
}

test("what is used again is made once", async () => {
  const { made, find } = counting(2);
  expect(await Promise.all([find("a"), find("a")])).toEqual(["a", "a"]);
  await find("a");
  expect(made).toEqual(["a"]);
});

test("what was used longest ago goes first", async () => {
  const { kept, made, dropped, find } = counting(2);
  for (const key of ["a", "b", "a", "c"]) await find(key);
  expect(dropped).toEqual(["b"]);
  expect([kept.has("a"), kept.has("b"), kept.has("c")]).toEqual([true, false, true]);
  await find("b");
  expect(made).toEqual(["a", "b", "c", "b"]);
});

test("what could not be made is tried again", async () => {
  const { kept, find } = counting(2);
  const failing = kept.find("a", () => Promise.reject(new Error("no")));
  await expect(failing).rejects.toThrow("no");
  expect(await find("a")).toBe("a");
});

test("what was never made is not there", async () => {
  await expect(counting(2).kept.get("a")).rejects.toThrow("a: is not kept");
});
