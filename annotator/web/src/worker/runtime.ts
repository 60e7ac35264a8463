/** Where onnxruntime-web finds its WebAssembly, which we serve, and how many threads it has. */

import { env } from "onnxruntime-web/wasm";
import loader from "onnxruntime-web/ort-wasm-simd-threaded.mjs?url";
import binary from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";

const MOST_THREADS = 2;
/** Threads that the browser refuses to start would be waited for without end. */
const PATIENCE_MS = 20_000;

/** To be called once, in the worker, before the first decoder is opened. */
export function prepareRuntime(): void {
  const here = self.location.href;
  env.wasm.wasmPaths = { mjs: new URL(loader, here).href, wasm: new URL(binary, here).href };
  env.wasm.initTimeout = PATIENCE_MS;
  // Threads share memory, which only isolated pages may. One core is left to the page, which draws:
  // on two cores a second thread makes clicks slower.
  const spare = self.crossOriginIsolated ? navigator.hardwareConcurrency - 1 : 1;
  env.wasm.numThreads = Math.max(1, Math.min(MOST_THREADS, spare));
}
