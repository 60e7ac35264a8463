/** The safetensors format: a JSON header that says where in the file each tensor lies. */

export interface Tensor {
  readonly shape: readonly number[];
  readonly data: Float32Array<ArrayBuffer>;
}

export interface Safetensors {
  readonly tensors: ReadonlyMap<string, Tensor>;
  readonly metadata: Readonly<Record<string, string>>;
}

const LENGTH_BYTES = 8;
const BYTES = { F16: 2, F32: 4 } as const;

interface Entry {
  dtype: keyof typeof BYTES;
  shape: number[];
  data_offsets: [number, number];
}

/** All tensors of a file, of float16 or float32, in float32; throws for a malformed one. */
export function parseSafetensors(file: ArrayBuffer): Safetensors {
  const { header, begin } = headerOf(file);
  const { __metadata__: metadata = {}, ...entries } = header;
  const tensors = new Map<string, Tensor>();
  for (const [name, entry] of Object.entries(entries)) {
    tensors.set(name, tensorAt(name, entry, file, begin));
  }
  return { tensors, metadata: metadata as Record<string, string> };
}

function headerOf(file: ArrayBuffer): { header: Record<string, unknown>; begin: number } {
  const size = file.byteLength;
  const length =
    size < LENGTH_BYTES ? Infinity : Number(new DataView(file).getBigUint64(0, true));
  const begin = LENGTH_BYTES + length;
  if (begin > size) {
    throw new Error(`safetensors: must hold their header, but got ${size} bytes`);
  }
  const text = new TextDecoder().decode(new Uint8Array(file, LENGTH_BYTES, length));
  return { header: JSON.parse(text) as Record<string, unknown>, begin };
}

function tensorAt(name: string, entry: unknown, file: ArrayBuffer, begin: number): Tensor {
  const { dtype, shape, data_offsets: offsets } = entry as Entry;
  const bytes = BYTES[dtype];
  if (bytes === undefined) {
    throw new Error(`safetensors: ${name} must be F16 or F32, but is ${dtype}`);
  }
  const count = shape.reduce((product, side) => product * side, 1);
  const [from, to] = [begin + offsets[0], begin + offsets[1]];
  if (from < begin || to > file.byteLength || to - from !== count * bytes) {
    throw new Error(`safetensors: ${name} must be ${count * bytes} bytes in the file`);
  }
  const data = file.slice(from, to);
  return { shape, data: dtype === "F32" ? new Float32Array(data) : fromFloat16(data) };
}

/** float16 numbers, little-endian, as float32. */
export function fromFloat16(data: ArrayBuffer): Float32Array<ArrayBuffer> {
  const halves = new Uint16Array(data);
  const bits = new Uint32Array(halves.length);
  const values = new Float32Array(bits.buffer);
  for (let index = 0; index < halves.length; index++) {
    const half = halves[index]!;
    const sign = (half & 0x8000) << 16;
    const magnitude = half & 0x7fff;
    if (magnitude >= 0x7c00) {
      bits[index] = sign | 0x7f800000 | ((magnitude & 0x3ff) << 13);
    } else if (magnitude >= 0x400) {
      // The exponent's zero is at 127 instead of 15.
      bits[index] = sign | ((magnitude << 13) + (112 << 23));
    } else {
      // Below 2^-14 a step is 2^-24.
      values[index] = (sign ? -1 : 1) * magnitude * 2 ** -24;
    }
  }
  return values;
}
