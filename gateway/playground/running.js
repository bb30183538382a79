/** One edit from its form to its pictures: what has arrived, and what to show of it. */

import { read } from "./pictures.js";

/** A file of the base64 in an event. */
function blobOf(event) {
  const bytes = Uint8Array.from(atob(event.b64_json), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: `image/${event.output_format ?? "png"}` });
}

export class Running {
  #steps = []; // made of each picture
  #done = 0;
  #preview = "";
  #quarter = 0;

  /**
   * @param {Stage} stage
   * @param {number} count pictures to come
   * @param {(text: string) => void} say tells who cannot see it
   */
  constructor(stage, count, say) {
    this.stage = stage;
    this.count = count;
    this.say = say;
  }

  /** Take an event. Returns a finished picture and its event, or nothing. */
  async take(event) {
    switch (event.type) {
      case "image_edit.progress":
        return this.#progress(event);
      case "image_edit.partial_image":
        return this.#previewed(event);
      case "image_edit.completed":
        this.#done += 1;
        return { picture: await read(blobOf(event), `edited-${event.seed ?? this.#done}.png`), event };
    }
  }

  get done() { return this.#done; }

  /** Nothing more comes. */
  end() {
    URL.revokeObjectURL(this.#preview);
  }

  #progress({ step, steps, index = 0 }) {
    this.#steps[index] = step;
    const made = this.#steps.reduce((sum, one) => sum + one, 0), all = steps * this.count;
    const text = this.count === 1 ? `Step ${step} of ${steps}` : `Step ${made} of ${all}, ${this.count} pictures`;
    this.stage.advance(made / all, text);
    const quarter = Math.floor((4 * made) / all);
    if (quarter > this.#quarter) this.say(text);
    this.#quarter = quarter;
  }

  async #previewed(event) {
    if (this.#done) return; // that one is looked at now
    const last = this.#preview;
    this.#preview = URL.createObjectURL(blobOf(event));
    await this.stage.preview(this.#preview);
    URL.revokeObjectURL(last);
  }
}
