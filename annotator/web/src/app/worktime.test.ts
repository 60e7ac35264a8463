import { expect, it } from "vitest";

import { WorkTime } from "./worktime";

function started(counted = 0, visible = true) {
  const clock = { now: 1000 };
  return { clock, time: new WorkTime(() => clock.now, counted, visible) };
}

it("counts while something is done, and a pause only up to a minute", () => {
  const { clock, time } = started(5);
  for (let second = 0; second < 50; second++) {
    clock.now += 1;
    time.touch();
  }
  expect(time.seconds).toBe(55);
  clock.now += 3600;
  expect(time.seconds).toBe(115);
  time.touch();
  clock.now += 2;
  expect(time.seconds).toBe(117);
});

it("does not count while the page is out of sight", () => {
  const { clock, time } = started();
  clock.now += 10;
  time.hide();
  clock.now += 30;
  time.touch();
  time.show();
  clock.now += 7;
  expect(time.seconds).toBe(17);
  time.show();
  expect(time.seconds).toBe(17);
});

it("begins to count when a page that was opened out of sight is shown", () => {
  const { clock, time } = started(0, false);
  clock.now += 100;
  expect(time.seconds).toBe(0);
  time.show();
  clock.now += 3;
  expect(time.seconds).toBe(3);
});
