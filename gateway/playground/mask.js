/** What of a picture may change: painted on a canvas over it, sent as a PNG whose alpha is 0 there. */

const LONGEST = 2048; // of the canvas, in pixels; what is painted is enlarged to the picture's own size when it is sent
const MOST_PIXELS = 8192 * 6144; // of a PNG, as the server reads them

export class Mask {
  erasing = false;
  /** Of the brush: a share of the picture's longer side. */
  brush = 0.12;
  #last = null;

  /** @param {HTMLCanvasElement} canvas  @param {(share: number) => void} changed told the share that is marked, 0 to 1 */
  constructor(canvas, changed) {
    this.canvas = canvas;
    this.changed = changed;
    this.pen = canvas.getContext("2d", { willReadFrequently: true });
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => this.#end());
  }

  /** Begin anew for a picture of this size in pixels. */
  reset({ width, height }) {
    const scale = Math.min(1, LONGEST / Math.max(width, height));
    this.width = width;
    this.height = height;
    this.canvas.width = Math.max(1, Math.round(width * scale));
    this.canvas.height = Math.max(1, Math.round(height * scale));
    this.changed(0);
  }

  clear() {
    this.pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.changed(0);
  }

  /** Mark a rectangle, its sides in pixels of the picture. Returns whether there is anything in it. */
  rectangle(left, top, right, bottom) {
    const x = this.canvas.width / this.width, y = this.canvas.height / this.height;
    this.pen.globalCompositeOperation = "source-over";
    this.pen.fillStyle = this.#colour();
    this.pen.fillRect(left * x, top * y, (right - left) * x, (bottom - top) * y);
    this.changed(this.share());
    return right > left && bottom > top;
  }

  /** How much is marked, 0 to 1. */
  share() {
    const { data } = this.pen.getImageData(0, 0, this.canvas.width, this.canvas.height);
    let marked = 0;
    for (let at = 3; at < data.length; at += 4) if (data[at] > 127) marked += 1;
    return marked / (data.length / 4);
  }

  /** The PNG, as large as the picture; half as wide and high where that is more than a PNG may be. @returns {Promise<Blob>} */
  async png() {
    const by = this.width * this.height > MOST_PIXELS ? 2 : 1;
    const width = Math.ceil(this.width / by), height = Math.ceil(this.height / by);
    const whole = new OffscreenCanvas(width, height), pen = whole.getContext("2d");
    pen.fillRect(0, 0, width, height);
    pen.globalCompositeOperation = "destination-out";
    pen.imageSmoothingEnabled = false;
    pen.drawImage(this.canvas, 0, 0, width, height);
    return whole.convertToBlob({ type: "image/png" });
  }

  #begin(event) {
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    this.#last = this.#place(event);
    this.#line(this.#last, this.#last);
  }

  #move(event) {
    if (!this.#last) return;
    const place = this.#place(event);
    this.#line(this.#last, place);
    this.#last = place;
  }

  #end() {
    if (this.#last) this.changed(this.share());
    this.#last = null;
  }

  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [
      ((event.clientX - box.left) / box.width) * this.canvas.width,
      ((event.clientY - box.top) / box.height) * this.canvas.height,
    ];
  }

  #line(from, to) {
    const { pen, canvas } = this;
    pen.globalCompositeOperation = this.erasing ? "destination-out" : "source-over";
    pen.fillStyle = pen.strokeStyle = this.#colour();
    pen.lineWidth = this.brush * Math.max(canvas.width, canvas.height);
    pen.beginPath();
    pen.arc(...to, pen.lineWidth / 2, 0, 2 * Math.PI); // a line without length would leave nothing
    pen.fill();
    pen.beginPath();
    pen.moveTo(...from);
    pen.lineTo(...to);
    pen.stroke();
  }

  #colour() {
    return getComputedStyle(this.canvas).color;
  }
}
