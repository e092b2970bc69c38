/** The server: requests that survive a lost connection and a missing token, uploads, progress of jobs. */

const FIRST_WAIT = 1000; // milliseconds until a lost server is asked again; doubled up to LONGEST_WAIT
const LONGEST_WAIT = 10_000;
const MOST_LOSSES = 3; // of one request, while the server answers others

/** An answer of the server that is an error: a problem detail (RFC 9457). */
export class Problem extends Error {
  constructor(status, content, retryAfter = null) {
    super(content.detail ?? content.title ?? `The server answered ${status}.`);
    Object.assign(this, { status, type: content.type ?? "about:blank", retryAfter });
  }
}

class ConnectionLost extends Error {}
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export class Server extends EventTarget {
  #reachable = null; // a promise while the server is sought
  #entry = null; // a promise while the token is asked for
  #offset = 0; // server's clock minus ours, milliseconds

  /** @param askToken asynchronous; ends when a session has begun */
  constructor(askToken) {
    super();
    this.askToken = askToken;
  }

  /** Milliseconds by the server's clock. */
  now() { return Date.now() + this.#offset; }

  async limits() {
    const response = await this.#patiently(() => this.#fetch("/v1/limits"));
    this.#offset = (Date.parse(response.headers.get("date")) || Date.now()) - Date.now();
    return response.json();
  }

  async models() { return (await this.#patiently(() => this.#fetch("/v1/models"))).json(); }
  async job(id) { return (await this.#patiently(() => this.#fetch(`/v1/jobs/${id}`))).json(); }
  async remove(id) {
    await this.#patiently(() => this.#fetch(`/v1/jobs/${id}`, { method: "DELETE" })).catch((error) => {
      if (error.status !== 404) throw error;
    });
  }

  /** Begin a session. Raises Problem 401 if it is not the token. */
  async present(token) {
    const headers = { "Content-Type": "application/json" };
    await this.#fetch("/v1/session", { method: "POST", headers, body: JSON.stringify({ token }) });
  }

  /** Send a picture; `told` gets the share that is sent. Returns the job. */
  upload(file, options, told, signal) {
    return this.#patiently(() => this.#send(file, options, told, signal), signal);
  }

  /** Addresses of what belongs to a job. */
  preview(id, which, edge) { return `/v1/jobs/${id}/preview/${which}?edge=${edge}`; }
  result(id) { return `/v1/jobs/${id}/result`; }
  shown(id) { return `/v1/jobs/${id}/result?download=0`; }
  zip(ids) { return `/v1/results.zip?${ids.map((id) => `job=${id}`).join("&")}`; }

  /** Call `told(job)` at each change of a job until `stop()` of what is returned; `lost()` if there is no such job. */
  follow(id, told, lost) {
    let [source, stopped] = [null, false];
    const open = () => {
      source = new EventSource(`/v1/jobs/${id}/events`);
      source.addEventListener("job", (event) => told(JSON.parse(event.data)));
      source.addEventListener("error", async () => {
        source.close(); // its own attempts would say neither why nor when
        const job = await this.job(id).catch((error) => error);
        if (stopped) return;
        if (job instanceof Error) return lost(job);
        told(job);
        if (!["done", "failed", "cancelled"].includes(job.state)) setTimeout(() => { if (!stopped) open(); }, FIRST_WAIT);
      });
    };
    open();
    return { stop: () => { stopped = true; source.close(); } };
  }

  /** Repeat a request when the server is back, and when the token was given. */
  async #patiently(request, signal) {
    for (let losses = 0; ; ) {
      signal?.throwIfAborted();
      try {
        return await request();
      } catch (error) {
        if (error.status === 401) await this.#enter();
        else if (error instanceof ConnectionLost || error.type === "/problems/stopping") {
          const alive = error instanceof ConnectionLost && (await this.#answers());
          if (alive && ++losses >= MOST_LOSSES) throw new Error("The connection failed several times. Try again.");
          if (!alive) await this.#seek();
          await sleep(FIRST_WAIT);
        } else throw error;
      }
    }
  }

  #enter() {
    this.#entry ??= this.askToken().finally(() => { this.#entry = null; });
    return this.#entry;
  }

  async #answers() {
    return fetch("/healthz", { cache: "no-store" }).then((response) => response.ok, () => false);
  }

  /** Wait until the server answers again; one search for all requests. */
  #seek() {
    this.#reachable ??= (async () => {
      this.dispatchEvent(new Event("lost"));
      for (let wait = FIRST_WAIT; !(await this.#answers()); wait = Math.min(2 * wait, LONGEST_WAIT)) await sleep(wait);
      this.#reachable = null;
      this.dispatchEvent(new Event("found"));
    })();
    return this.#reachable;
  }

  async #fetch(address, options = {}) {
    const response = await fetch(address, { cache: "no-store", ...options }).catch(() => { throw new ConnectionLost(); });
    if (response.ok) return response;
    throw problem(response.status, await response.text().catch(() => ""), response.headers.get("retry-after"));
  }

  /** XMLHttpRequest, because fetch does not tell how much of an upload is sent. */
  #send(file, options, told, signal) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      const form = new FormData();
      for (const [name, value] of Object.entries(options)) form.append(name, value);
      form.append("image", file, file.name);
      request.upload.onprogress = ({ loaded, total }) => told(total ? loaded / total : 0);
      request.onload = () => {
        if (request.status < 300) resolve(JSON.parse(request.responseText));
        else reject(problem(request.status, request.responseText, request.getResponseHeader("retry-after")));
      };
      request.onerror = () => reject(new ConnectionLost());
      request.onabort = () => reject(signal.reason);
      signal.addEventListener("abort", () => request.abort(), { once: true });
      request.open("POST", "/v1/jobs");
      request.send(form);
    });
  }
}

function problem(status, text, retryAfter) {
  let content = {};
  try {
    content = JSON.parse(text);
  } catch { /* a proxy's page: the status must do */ }
  return new Problem(status, content, Number(retryAfter) || null);
}
