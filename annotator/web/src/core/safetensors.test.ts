import { describe, expect, test } from "vitest";
import { parseEmbedding } from "./embedding";
import { fromFloat16, parseSafetensors } from "./safetensors";

/** A file with that header, and as many bytes of data. */
function file(header: unknown, data: ArrayBuffer): ArrayBuffer {
  const text = new TextEncoder().encode(JSON.stringify(header));
  const bytes = new Uint8Array(8 + text.length + data.byteLength);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  bytes.set(new Uint8Array(data), 8 + text.length);
  return bytes.buffer;
}

const FLOATS = Float32Array.of(1.5, -2).buffer;

/** float16, by its definition. */
function slowly(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 0x3ff;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : fraction * 2 ** -24);
}

test("every float16 number is read", () => {
  const halves = Uint16Array.from({ length: 65536 }, (_, half) => half);
  expect(fromFloat16(halves.buffer).every((value, half) => Object.is(value, slowly(half)))).toBe(true);
});

test("tensors and metadata come from where the header says", () => {
  const data = new Uint8Array(12);
  data.set(new Uint8Array(FLOATS), 4);
  data.set(new Uint8Array(Uint16Array.of(0x3c00, 0xc000).buffer), 0);
  const header = {
    __metadata__: { made: "here" },
    halves: { dtype: "F16", shape: [2], data_offsets: [0, 4] },
    floats: { dtype: "F32", shape: [2, 1], data_offsets: [4, 12] },
  };
  const { tensors, metadata } = parseSafetensors(file(header, data.buffer));
  expect(metadata).toEqual({ made: "here" });
  expect([...tensors.get("halves")!.data]).toEqual([1, -2]);
  expect(tensors.get("floats")).toEqual({ shape: [2, 1], data: Float32Array.of(1.5, -2) });
});

describe("a malformed file is refused", () => {
  const one = (entry: object) => file({ one: entry }, FLOATS);
  test.each([
    ["nothing", new ArrayBuffer(0), "must hold their header, but got 0 bytes"],
    ["cut off", file({}, FLOATS).slice(0, 9), "must hold their header, but got 9 bytes"],
    ["another type", one({ dtype: "I64", shape: [1], data_offsets: [0, 8] }), "F16 or F32, but is I64"],
    ["too few bytes", one({ dtype: "F32", shape: [3], data_offsets: [0, 12] }), "must be 12 bytes"],
    ["another shape", one({ dtype: "F32", shape: [1], data_offsets: [0, 8] }), "must be 4 bytes"],
    ["before the data", one({ dtype: "F32", shape: [2], data_offsets: [-4, 4] }), "must be 8 bytes"],
  ])("%s", (_, bytes, message) => {
    expect(() => parseSafetensors(bytes)).toThrow(message);
  });
});

describe("an embedding", () => {
  const features = { dtype: "F32", shape: [2, 1, 1], data_offsets: [0, 8] };
  const embedding = JSON.stringify({ encoder_id: "ab", original_hw: [30, 60], side: 64 });

  test("has its frame", () => {
    const found = parseEmbedding(file({ __metadata__: { embedding }, features }, FLOATS));
    expect(found.frame.resizedHw).toEqual([32, 64]);
    expect(found.encoderId).toBe("ab");
    expect([...found.tensors.keys()]).toEqual(["features"]);
  });

  test.each([
    ["metadata", { features }],
    ["features", { __metadata__: { embedding } }],
  ])("must have %s", (_, header) => {
    expect(() => parseEmbedding(file(header, FLOATS))).toThrow("must have features and their frame");
  });
});
