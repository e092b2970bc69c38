import { defineConfig } from "vite";
import { serverPage, serviceWorkerFiles } from "./page_plugin.ts";

export default defineConfig({
  base: "./", // works from any folder of a host
  // ONNX Runtime's files stay as they are: its threads load them by their own addresses.
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm", "module", "browser", "production", "import", "default"] },
  plugins: [serverPage(), serviceWorkerFiles()],
  worker: { format: "es" },
  build: {
    target: "es2023",
    chunkSizeWarningLimit: 1000,
    rolldownOptions: {
      input: { index: "index.html", sw: "src/sw.ts" },
      output: { entryFileNames: ({ name }) => (name === "sw" ? "sw.js" : "assets/[name]-[hash].js") },
    },
  },
});
