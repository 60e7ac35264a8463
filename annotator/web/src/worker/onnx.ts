/** A decoder's ONNX graph, run by onnxruntime-web. */

import { InferenceSession, Tensor } from "onnxruntime-web/wasm";
import type { Decode, Decoded, DecoderPrompt } from "../core/decoder";
import type { Embedding } from "../core/embedding";

type Feeds = Record<string, Tensor>;

const WARMING_RUNS = 3;

/** Decodes embeddings of one side of frames. */
export class OnnxDecoder {
  /** Tensors of embeddings as long as these are kept. */
  private readonly known = new WeakMap<Embedding, Feeds>();
  private readonly noMask: Tensor;

  private constructor(
    private readonly session: InferenceSession,
    private readonly logitsSide: number,
  ) {
    const side = logitsSide;
    this.noMask = new Tensor("float32", new Float32Array(side * side), [1, 1, side, side]);
  }

  /** From the bytes of a graph whose logits are `logitsSide` a side; rejects for other bytes. */
  static async open(graph: ArrayBuffer, logitsSide: number): Promise<OnnxDecoder> {
    const session = await InferenceSession.create(new Uint8Array(graph), {
      executionProviders: ["wasm"],
      graphOptimizationLevel: "all",
    });
    return new OnnxDecoder(session, logitsSide);
  }

  readonly decode: Decode = async (embedding, prompt) => {
    const feeds = { ...this.feedsOf(embedding), ...this.asked(prompt) };
    const { logits, iou } = await this.session.run(feeds);
    return this.decoded(logits!.data as Float32Array, iou!.data as Float32Array);
  };

  /** Decodes nothing a few times: the browser compiles well only what it has seen run. */
  async warmUp(): Promise<void> {
    const feeds: Feeds = {};
    for (const input of this.session.inputMetadata) {
      if (!input.isTensor) continue;
      const shape = input.shape.map((side) => (typeof side === "number" ? side : 2));
      const count = shape.reduce((product, side) => product * side, 1);
      const data = input.type === "int64" ? new BigInt64Array(count) : new Float32Array(count);
      feeds[input.name] = new Tensor(data, shape);
    }
    for (let time = 0; time < WARMING_RUNS; time++) await this.session.run(feeds);
  }

  release(): Promise<void> {
    return this.session.release();
  }

  private feedsOf(embedding: Embedding): Feeds {
    const known = this.known.get(embedding);
    if (known) return known;
    const feeds: Feeds = {};
    for (const [name, { data, shape }] of embedding.tensors) {
      feeds[name] = new Tensor("float32", data, [1, ...shape]);
    }
    this.known.set(embedding, feeds);
    return feeds;
  }

  private asked({ points, labels, logits }: DecoderPrompt): Feeds {
    const side = this.logitsSide;
    const mask = logits && new Tensor("float32", logits.data, [1, 1, side, side]);
    return {
      points: new Tensor("float32", points, [1, labels.length, 2]),
      labels: new Tensor("int64", BigInt64Array.from(labels, BigInt), [1, labels.length]),
      mask_logits: mask ?? this.noMask,
      has_mask: new Tensor("float32", Float32Array.of(mask ? 1 : 0), [1]),
    };
  }

  private decoded(logits: Float32Array, iou: Float32Array): Decoded {
    const side = this.logitsSide;
    const masks = Array.from(iou, (_, index) => ({
      side,
      data: new Float32Array(logits.subarray(index * side ** 2, (index + 1) * side ** 2)),
    }));
    return { logits: masks, iou: [...iou] };
  }
}
