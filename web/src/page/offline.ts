/** The service worker: keeps the page for visits without a connection, and allows threads. */

const PATIENCE = 8000; // milliseconds until the page goes on without
const KEY = "tsdsr-isolated";

/**
 * Register the service worker. On the first visit, load the page once more under its headers, where the host gives
 * none: threads need an isolated page. Nothing is lost, because nothing has begun.
 */
export async function prepareOffline(): Promise<void> {
  if (!("serviceWorker" in navigator)) return; // an insecure address
  try {
    await navigator.serviceWorker.register("./sw.js");
    await Promise.race([controlled(), new Promise((resolve) => setTimeout(resolve, PATIENCE))]);
  } catch {
    return; // a private window: the page works while it is connected
  }
  if (crossOriginIsolated || !navigator.serviceWorker.controller || sessionStorage.getItem(KEY)) return;
  sessionStorage.setItem(KEY, "tried");
  location.reload();
  await new Promise(() => {}); // this page ends here
}

function controlled(): Promise<void> {
  if (navigator.serviceWorker.controller) return Promise.resolve();
  return new Promise((resolve) => {
    navigator.serviceWorker.addEventListener("controllerchange", () => resolve(), { once: true });
  });
}
