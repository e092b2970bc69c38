import { defineConfig } from "vite";

export default defineConfig({
  base: "./", // works from any folder of a host
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm", "module", "browser", "production", "import", "default"] },
  server: { fs: { allow: [".."] } },
  worker: { format: "es" },
  build: { target: "es2023", chunkSizeWarningLimit: 1000 },
});
