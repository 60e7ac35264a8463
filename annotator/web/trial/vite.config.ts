import { fileURLToPath } from "node:url";
import page from "../vite.config.ts";

/** The page of tests/annotator/web/test_in_browser.py, built as the annotator's own pages are. */
export default {
  ...page,
  root: fileURLToPath(new URL(".", import.meta.url)),
  build: { ...page.build, rollupOptions: {} },
};
