/** The pictures to edit: chosen, dropped, pasted or taken from a result. The first is the one that is shown. */

/** @typedef {{blob: Blob, name: string, url: string, width: number, height: number}} Picture upright, sizes in pixels */

/**
 * A picture of a file. Throws `Error` with a line for the user where the browser cannot show it.
 * @param {Blob} blob
 * @param {string} name of a file
 * @returns {Promise<Picture>}
 */
export async function read(blob, name) {
  const url = URL.createObjectURL(blob), image = new Image();
  image.src = url;
  try {
    await image.decode();
  } catch {
    URL.revokeObjectURL(url);
    throw new Error(`${name} is not a picture that this browser can show: choose a JPEG, PNG or WebP.`);
  }
  return { blob, name, url, width: image.naturalWidth, height: image.naturalHeight };
}

/** The list in the form. Calls `changed()` whenever it is another. */
export class Pictures {
  most = 1;
  #list = [];

  /** @param {HTMLUListElement} element */
  constructor(element, changed) {
    this.element = element;
    this.changed = changed;
  }

  get all() { return [...this.#list]; }

  get first() { return this.#list[0]; }

  /** Take files in beside those that are there or, of a model that takes one, instead. Throws as `read` does. */
  async add(files) {
    const read_ = await Promise.all([...files].map((file) => read(file, file.name || "picture.png")));
    if (read_.length > this.most) throw new Error(`This model takes ${this.most === 1 ? "one picture" : `at most ${this.most} pictures`} in an edit.`);
    const kept = this.#list.length + read_.length > this.most ? [] : this.#list;
    this.replace([...kept, ...read_]);
  }

  replace(list) {
    this.#list = list;
    this.element.replaceChildren(...list.map((picture) => this.#item(picture)));
    this.element.hidden = list.length === 0;
    this.changed();
  }

  #item(picture) {
    const item = document.createElement("li"), image = new Image(), button = document.createElement("button");
    image.src = picture.url;
    image.alt = picture.name;
    button.type = "button";
    button.textContent = "×";
    button.ariaLabel = `Remove ${picture.name}`;
    button.addEventListener("click", () => this.replace(this.#list.filter((one) => one !== picture)));
    item.append(image, button);
    return item;
  }
}

/** Have `take(files)` called for files that are dropped anywhere on the page, whatever they are, and for pictures pasted. */
export function onDropOrPaste(take) {
  const files = (data) => [...(data?.files ?? [])];
  const pictures = (data) => files(data).filter((file) => file.type.startsWith("image/"));
  const over = (on) => document.body.classList.toggle("over", on);
  document.addEventListener("dragover", (event) => { event.preventDefault(); over(true); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) over(false); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    over(false);
    if (files(event.dataTransfer).length) take(files(event.dataTransfer));
  });
  document.addEventListener("paste", (event) => {
    if (pictures(event.clipboardData).length) take(pictures(event.clipboardData));
  });
}
