/** What the form says beside pictures, mask and prompt; what may be said is told by `GET /v1/models`. */

const byId = (id) => document.getElementById(id);
const PLAIN = ["num_inference_steps", "guidance_scale", "image_guidance_scale", "n", "negative_prompt", "cache"];

export class Options {
  #scales = new Map(); // of the adapters that are on, in the order in which they were put on
  #model = ""; // theirs

  constructor() {
    byId("lock").addEventListener("click", () => this.#lock(!this.locked));
    byId("seed").addEventListener("input", () => this.#lock(byId("seed").value.trim() !== ""));
  }

  /** @param {object[]} models the default model, its adapters, and what else there is */
  offer([base, ...others]) {
    const adapters = others.filter(({ parent }) => parent === base.id);
    this.#model = base.id;
    for (const name of ["num_inference_steps", "guidance_scale", "image_guidance_scale"]) byId(name).placeholder = base[name];
    byId("image-guidance").hidden = base.image_guidance_scale <= 1;
    byId("negative").hidden = !base.negative_prompt;
    byId("caching").hidden = !base.cache;
    byId("cache-own").textContent = `The model's own: ${base.cache}`;
    byId("adapters").hidden = adapters.length === 0;
    byId("chips").replaceChildren(...adapters.map(({ id }) => this.#chip(id)));
  }

  get locked() { return byId("lock").ariaPressed === "true"; }

  /** The fields that say something, by their names in the API. */
  get fields() {
    const fields = { model: modelOf(this.#model, [...this.#scales].map(([name, input]) => `${name}:${input.value}`)) };
    for (const name of PLAIN) if (!byId(name).closest("[hidden]")) fields[name] = byId(name).value.trim();
    const [width, height] = [byId("width").value.trim(), byId("height").value.trim()];
    if (width || height) fields.size = `${width}x${height}`;
    if (this.locked) fields.seed = byId("seed").value.trim();
    return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== ""));
  }

  /** Tell the seed of an edit, which the next has, too, if it is locked. */
  set seed(seed) { byId("seed").value = seed; }

  #lock(on) {
    byId("lock").ariaPressed = String(on);
    if (on) byId("seed").focus();
  }

  #chip(name) {
    const item = document.createElement("li"), button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.ariaPressed = "false";
    button.addEventListener("click", () => {
      const on = button.ariaPressed !== "true";
      button.ariaPressed = String(on);
      if (on) this.#scale(name);
      else this.#without(name);
    });
    item.append(button);
    return item;
  }

  #scale(name) {
    const row = byId("scale").content.cloneNode(true).firstElementChild;
    const [label, input, output] = row.children;
    label.textContent = `How much ${name}`;
    label.htmlFor = input.id = `scale-${name}`;
    output.htmlFor = input.id;
    input.addEventListener("input", () => { output.textContent = input.value; });
    this.#scales.set(name, input);
    byId("scales").append(row);
  }

  #without(name) {
    this.#scales.get(name).parentElement.remove();
    this.#scales.delete(name);
  }
}

/** The field of adapters that are listed alone or, where another model has the name, behind theirs: which stands once. */
function modelOf(model, adapters) {
  const before = `${model}/`, behind = adapters.filter((one) => one.startsWith(before));
  const plain = adapters.map((one) => (behind.includes(one) ? one.slice(before.length) : one)).join("+");
  return behind.length ? before + plain : plain;
}

/** The seed of a finished picture; one that was asked for is counted from, for JavaScript reads no number above 2^53. */
export function seedOf(asked, { seed = "", index = 0 }) {
  return /^\d+$/.test(asked ?? "") ? String((BigInt(asked) + BigInt(index)) % 2n ** 64n) : String(seed);
}
