/** Vite plugins: the page of `tsdsr serve` as a static page, and the list of files of the service worker. */

import { readdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import type { Plugin, Rolldown } from "vite";

const ASSETS = resolve(import.meta.dirname, "../src/tsdsr/serving/assets");
const PICTURES = ["example.jpg", "example-after.webp", "icon.svg"];
const POLICY =
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; " +
  "img-src 'self' blob: data:; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'";
const HEAD = `<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<meta name="description" content="Small photographs, made large and clear on your own device.">
<link rel="manifest" href="./manifest.webmanifest">
<link rel="apple-touch-icon" href="./icon-192.png">`;
const KEPT = `<p class="small">EXIF, XMP and colour profiles of JPEG, PNG and WebP files are kept. Results have 8 bits for each
channel. After the first visit, this page works without a connection.</p>`;

/** What differs from the server's page: text of it → text here. Each has to occur. */
const CHANGES: readonly (readonly [RegExp, string])[] = [
  [/<meta name="robots"[^>]*>\n/, ""],
  [/<link rel="stylesheet"[^>]*>\n<link rel="stylesheet"[^>]*>\n/, ""],
  [/<script type="module" src="[^"]*"><\/script>/, `${HEAD}\n<script type="module" src="./src/page/main.ts"></script>`],
  [/<span id="model">…<\/span>/, '<span id="model">is being loaded (30 MB, once) …</span>'],
  [
    /Pictures go to this server and nowhere else\./,
    "Pictures never leave this device: the model runs in your browser.",
  ],
  [/(<div class="choose">[^]*?<\/div>\n)/, `$1${KEPT}\n`],
  [/\/assets\//g, "./page/"],
];

/** Put the server's page in the place of `index.html`, its modules beside ours, and the worker in its server's place. */
export function serverPage(): Plugin {
  return {
    name: "server-page",
    enforce: "pre",
    transformIndexHtml: { order: "pre", handler: staticPage },
    resolveId(source, importer) {
      const isServer = source === "./server.js" && importer?.startsWith(ASSETS);
      return isServer ? resolve(import.meta.dirname, "src/page/server.ts") : null;
    },
    transform(code, id) {
      return id.startsWith(ASSETS) && id.endsWith(".js") ? code.replaceAll('"/assets/', '"./page/') : null;
    },
    generateBundle() {
      for (const name of PICTURES) {
        this.emitFile({ type: "asset", fileName: `page/${name}`, source: readFileSync(resolve(ASSETS, name)) });
      }
    },
  };
}

function staticPage(): string {
  let page = readFileSync(resolve(ASSETS, "index.html"), "utf8");
  for (const [found, wanted] of CHANGES) {
    const changed = page.replace(found, wanted);
    if (changed === page) throw new Error(`the server's page has nothing like ${found}: adapt page_plugin.ts`);
    page = changed;
  }
  return page;
}

/** Tell the service worker the files of this build. */
export function serviceWorkerFiles(): Plugin {
  return {
    name: "service-worker-files",
    enforce: "post",
    generateBundle(_, bundle: Rolldown.OutputBundle) {
      const worker = bundle["sw.js"];
      if (worker?.type !== "chunk") throw new Error("the bundle has no sw.js");
      const built = Object.keys(bundle).filter((name) => name !== "sw.js" && name !== "index.html");
      const all = ["./", ...built, ...readdirSync(resolve(import.meta.dirname, "public"))];
      const page = all.filter((name) => !/ort[.-]|\.onnx$|\.safetensors$/.test(name));
      worker.code = worker.code.replaceAll("__PAGE__", JSON.stringify(page)).replaceAll("__ALL__", JSON.stringify(all));
    },
  };
}
