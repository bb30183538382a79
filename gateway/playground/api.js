/** The gateway's API. Paths are relative, so that the page works behind a prefix, too. */

import { events, texts } from "./sse.js";

/** What the server said no with: `message` in its words, `status` (0: no answer), `param` if it names one. */
export class Refused extends Error {
  constructor(message, status = 0, param = null) {
    super(message);
    this.status = status;
    this.param = param;
  }
}

export class Api {
  #key = ""; // here alone, and gone with the page

  /** @param {string} key a bearer token; "" for none */
  set key(key) { this.#key = key.trim(); }

  get hasKey() { return this.#key !== ""; }

  /** The entries of `GET /v1/models`, the base model first. Throws `Refused`. */
  async models() {
    return (await (await this.#ask("v1/models")).json()).data;
  }

  /**
   * The events of one edit: progress, previews, and each finished picture. Throws `Refused`, or `AbortError` after `signal`.
   * @param {FormData} form
   * @param {AbortSignal} signal
   */
  async *edit(form, signal) {
    const response = await this.#ask("v1/images/edits", { method: "POST", body: form, signal });
    try {
      for await (const event of events(texts(response.body))) {
        if (event.error) throw new Refused(event.error.message, response.status, event.error.param);
        yield event;
      }
    } catch (error) {
      throw asRefused(error, "The connection broke before the picture was done.");
    }
  }

  async #ask(path, options = {}) {
    const headers = this.#key ? { Authorization: `Bearer ${this.#key}` } : {};
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch (error) {
      throw asRefused(error, "The server cannot be reached.");
    }
    if (response.ok) return response;
    const { error } = await response.json().catch(() => ({}));
    throw new Refused(error?.message ?? `The server answered ${response.status}.`, response.status, error?.param);
  }
}

function asRefused(error, message) {
  return error instanceof Refused || error.name === "AbortError" ? error : new Refused(message);
}
