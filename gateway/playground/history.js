/** The edits of this visit, newest first. They are in this page's memory alone. */

const MOST = 60;

/**
 * @typedef {{before: Picture, after: Picture, inputs: Picture[], fields: Object<string, string>, mask: ?Blob}} Edit
 * `fields`: what the form had beside its files
 */

export class History {
  #edits = [];
  #buttons = [];

  /** @param {HTMLUListElement} element  @param {(edit: Edit) => Promise<void>} shown called for the one to show */
  constructor(element, shown) {
    this.element = element;
    this.shown = shown;
  }

  /** @param {Edit} edit which is shown, once this is done */
  async add(edit) {
    const item = document.createElement("li"), button = document.createElement("button"), image = new Image();
    image.src = edit.after.url;
    image.alt = "";
    button.type = "button";
    button.ariaLabel = `Show: ${edit.fields.prompt}`;
    button.title = edit.fields.prompt;
    button.append(image);
    button.addEventListener("click", () => this.select(edit));
    item.append(button);
    this.element.prepend(item);
    this.#edits.unshift(edit);
    this.#buttons.unshift(button);
    if (this.#edits.length > MOST) this.#forget();
    this.element.parentElement.hidden = false;
    await this.select(edit);
  }

  /** @param {?Edit} edit null for none */
  async select(edit) {
    this.current = edit;
    this.#edits.forEach((one, index) => { this.#buttons[index].ariaCurrent = String(one === edit); });
    if (edit) await this.shown(edit);
  }

  #forget() {
    URL.revokeObjectURL(this.#edits.pop().after.url);
    this.#buttons.pop().parentElement.remove();
  }
}
