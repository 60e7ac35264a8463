import { expect, test } from "vitest";
import { Frame } from "./frame";

test("the longer side fills the frame, the other is rounded", () => {
  const frame = new Frame([683, 1024], 512);
  expect(frame.resizedHw).toEqual([342, 512]);
  expect(frame.toFrame(1024, 683)).toEqual([512, 342]);
});

test.each([
  [[0, 5], 512, "originalHw: must be positive, but got 0 x 5"],
  [[5, 5], 0, "side: must be positive, but got 0"],
] as const)("%j in %i is refused", (hw, side, message) => {
  expect(() => new Frame(hw, side)).toThrow(message);
});
