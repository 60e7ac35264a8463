import { expect, test } from "vitest";
import { Superseded } from "./predictor";
import { Turns } from "./turns";

/** Jobs that end when they are told to, and what became of each. */
class Asked {
  readonly turns = new Turns();
  readonly log: string[] = [];
  private ends = new Map<string, () => void>();
  private lingers = new Map<string, () => void>();

  ask(name: string, hover: boolean): void {
    const job = (signal: AbortSignal, linger: () => void) => {
      this.log.push(`${name} starts`);
      this.lingers.set(name, linger);
      return new Promise<void>((resolve, reject) => {
        this.ends.set(name, resolve);
        signal.addEventListener("abort", () => reject(new Error("aborted")));
      });
    };
    this.turns.ask(hover, job).then(
      () => this.log.push(`${name} answered`),
      (error: unknown) => this.log.push(`${name} ${(error as Error).name}`),
    );
  }

  linger(name: string): void {
    this.lingers.get(name)!();
  }

  async end(...names: string[]): Promise<void> {
    for (const name of names) {
      this.ends.get(name)!();
      await settled();
    }
  }
}

function settled(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}

test("clicks are answered one by one, none is dropped", async () => {
  const asked = new Asked();
  for (const name of ["a", "b", "c"]) asked.ask(name, false);
  await asked.end("a", "b", "c");
  const inOrder = ["a", "b", "c"].flatMap((name) => [`${name} starts`, `${name} answered`]);
  expect([...asked.log].sort()).toEqual([...inOrder].sort());
  expect(asked.log.filter((line) => line.endsWith("starts"))).toEqual(["a starts", "b starts", "c starts"]);
});

test("of hovers that wait only the newest is answered; the one that runs goes on", async () => {
  const asked = new Asked();
  for (const name of ["a", "b", "c"]) asked.ask(name, true);
  await asked.end("a", "c");
  expect(asked.log).toContain("a answered");
  expect(asked.log).toContain("b Superseded");
  expect(asked.log).not.toContain("b starts");
  expect(asked.log).toContain("c answered");
});

test("a click overtakes the hover that runs and the one that waits", async () => {
  const asked = new Asked();
  asked.ask("a", true);
  asked.ask("b", true);
  asked.ask("click", false);
  await settled();
  await asked.end("click");
  expect(asked.log).toContain("a Superseded");
  expect(asked.log).toContain("b Superseded");
  expect(asked.log).toContain("click answered");
});

test("a hover waits until clicks are answered, and a click does not give way to it", async () => {
  const asked = new Asked();
  asked.ask("click", false);
  asked.ask("second", false);
  asked.ask("hover", true);
  await asked.end("click", "second", "hover");
  expect(asked.log.filter((line) => line.endsWith("answered"))).toEqual([
    "click answered",
    "second answered",
    "hover answered",
  ]);
});

test("a hover that lingers is overtaken by the next hover", async () => {
  const asked = new Asked();
  asked.ask("a", true);
  asked.linger("a");
  asked.ask("b", true);
  await settled();
  await asked.end("b");
  expect(asked.log).toContain("a Superseded");
  expect(asked.log).toContain("b answered");
});

test("a click that lingers is overtaken by nothing", async () => {
  const asked = new Asked();
  asked.ask("click", false);
  asked.linger("click");
  asked.ask("hover", true);
  asked.ask("second", false);
  await asked.end("click", "second");
  expect(asked.log).toContain("click answered");
  expect(asked.log).toContain("second answered");
});

test("clearing drops all", async () => {
  const asked = new Asked();
  asked.ask("a", false);
  asked.ask("b", false);
  asked.ask("c", true);
  asked.turns.clear();
  await settled();
  expect(asked.log.filter((line) => line.endsWith("Superseded")).length).toBe(3);
  asked.ask("d", false);
  await settled();
  await asked.end("d");
  expect(asked.log).toContain("d answered");
});

test("a job that fails does not stop the next", async () => {
  const turns = new Turns();
  const failing = turns.ask(false, () => Promise.reject(new Error("no")));
  const next = turns.ask(false, () => Promise.resolve(1));
  await expect(failing).rejects.toThrow("no");
  expect(await next).toBe(1);
  expect(new Superseded()).toBeInstanceOf(Error);
});
