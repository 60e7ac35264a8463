import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

function page(name: string): string {
  return fileURLToPath(new URL(`${name}.html`, import.meta.url));
}

export default defineConfig({
  resolve: {
    // onnxruntime-web's script without its loader of WebAssembly inside, which the workers that it
    // starts could not load alone; src/worker/runtime.ts says where the loader is.
    conditions: ["onnxruntime-web-use-extern-wasm", "module", "browser", "development|production"],
  },
  build: {
    outDir: "../built",
    emptyOutDir: true,
    assetsDir: "assets",
    // The content policy of the server allows no data: scripts, and hashed files are kept for ever.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: ["chrome120", "edge120", "firefox121", "safari17"],
    rollupOptions: {
      input: { index: page("index"), "sign-in": page("sign-in"), lead: page("lead") },
    },
  },
  worker: { format: "es" },
  test: {
    testTimeout: 60_000,
    // The latter compare with what Python computed: tests/annotator/web runs them.
    include: [process.env["MASKLOOP_CASES"] ? "src/**/*.golden.ts" : "src/**/*.test.ts"],
    environment: "node",
    // The same WebAssembly, loaded as Node.js loads it.
    alias: { "onnxruntime-web/wasm": "onnxruntime-web" },
  },
});
