/**
 * The service worker.
 *
 * It keeps the page at once, and the model and its runtime, tens of megabytes of which a browser needs a part, when they
 * are first used. Every answer gets the headers that isolate the page, without which browsers give no threads; hosts of
 * static files seldom let one set them.
 */

/** Files of the page, and all files of this version; the build fills these in. */
declare const __PAGE__: readonly string[];
declare const __ALL__: readonly string[];

const scope = self as unknown as ServiceWorkerGlobalScope;
const CACHE = `tsdsr ${scope.registration.scope}`; // a host may have several pages
const HASHED = /\/assets\//; // the content of these files never changes

scope.addEventListener("install", (event) => event.waitUntil(keepPage()));
scope.addEventListener("activate", (event) => event.waitUntil(forgetOthers().then(() => scope.clients.claim())));
scope.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && url.startsWith(scope.registration.scope)) event.respondWith(answer(event.request));
});

async function keepPage(): Promise<void> {
  const cache = await caches.open(CACHE);
  await Promise.all(
    __PAGE__.map(async (name) => {
      if (HASHED.test(`/${name}`) && (await cache.match(name))) return;
      await cache.add(new Request(name, { cache: "reload" }));
    }),
  );
}

async function forgetOthers(): Promise<void> {
  const cache = await caches.open(CACHE);
  const own = new Set(__ALL__.map((name) => new URL(name, scope.registration.scope).href));
  for (const request of await cache.keys()) if (!own.has(request.url)) await cache.delete(request);
}

async function answer(request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  const name = request.mode === "navigate" ? new URL("./", scope.registration.scope).href : request.url;
  const kept = await cache.match(name, { ignoreSearch: true });
  if (kept !== undefined) return isolated(kept);
  const response = await fetch(request);
  if (response.ok && __ALL__.some((file) => new URL(file, scope.registration.scope).href === request.url)) {
    await cache.put(request, response.clone());
  }
  return isolated(response);
}

function isolated(response: Response): Response {
  if (response.type !== "basic" && response.type !== "default") return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
