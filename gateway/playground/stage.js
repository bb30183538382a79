/** The large picture: the input, the mask on it, previews while an edit runs, and then before and after. */

const byId = (id) => document.getElementById(id);

export class Stage {
  #busy = false;
  #shown = 0; // counts what was asked to be shown: what has to be decoded first may come too late

  constructor() {
    for (const id of ["stage", "welcome", "frame", "before", "after", "canvas", "slider", "running", "progress", "steps", "actions"]) this[id] = byId(id);
    this.slider.addEventListener("input", () => this.#divide());
  }

  /** Nothing to show yet. */
  empty() { this.#state("empty"); }

  /** One picture, with the mask's canvas over it where `painting`. */
  picture(picture, painting) {
    this.#state("picture");
    this.#before(picture);
    this.#size(picture);
    this.canvas.hidden = !painting;
  }

  /** An edit begins. */
  begin(picture) {
    this.#busy = true;
    this.picture(picture, false);
    this.progress.removeAttribute("value");
    this.steps.textContent = "Waiting for the model";
  }

  /** No more of it comes; what is shown stays. */
  end() {
    this.#busy = false;
    this.running.hidden = true;
  }

  /** @param {number} share done, 0 to 1  @param {string} text that says so */
  advance(share, text) {
    this.progress.value = share;
    this.steps.textContent = text;
  }

  /** A picture that is not done yet, over the one before, unless one that is done is shown. */
  async preview(url) {
    if (this.stage.dataset.state === "done") return;
    if (!(await this.#decoded(url))) return;
    this.after.alt = "Preview of the edited picture";
    this.after.hidden = false;
    this.#set(0);
  }

  /** Before and after. @param {{before: Picture, after: Picture}} edit */
  async result({ before, after }) {
    if (!(await this.#decoded(after.url))) return;
    this.#before(before);
    this.#size(after);
    this.after.alt = "Edited picture";
    this.#state("done");
    this.#set(0);
  }

  /** Put a picture in, without a flash of nothing in between. Returns whether it is still the one to show. */
  async #decoded(url) {
    const shown = ++this.#shown, next = new Image();
    next.src = url;
    await next.decode().catch(() => {});
    if (shown !== this.#shown) return false;
    this.after.src = url;
    return true;
  }

  #state(state) {
    this.#shown += 1;
    this.stage.dataset.state = state;
    this.welcome.hidden = state !== "empty";
    this.frame.hidden = state === "empty";
    this.running.hidden = !this.#busy;
    this.canvas.hidden = true;
    for (const only of [this.after, this.slider, this.actions, byId("tag-before"), byId("tag-after")]) only.hidden = state !== "done";
  }

  #before(picture) {
    if (this.before.src !== picture.url) this.before.src = picture.url;
    this.before.alt = `Picture: ${picture.name}`;
  }

  #size({ width, height }) {
    this.frame.style.setProperty("--ratio", width / height);
  }

  /** @param {number} percent of the picture, from the left, that shows what was before */
  #set(percent) {
    this.slider.value = percent;
    this.#divide();
  }

  #divide() {
    const percent = Number(this.slider.value);
    this.frame.style.setProperty("--before", `${percent}%`);
    this.slider.ariaValueText = percent === 0 ? "all after" : percent === 100 ? "all before" : `${percent} percent before`;
    byId("tag-before").classList.toggle("out", percent < 12);
    byId("tag-after").classList.toggle("out", percent > 88);
  }
}
