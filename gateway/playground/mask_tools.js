/** The controls of the mask. All of it can be done without a pointer: by a rectangle in numbers. */

const byId = (id) => document.getElementById(id);
const SIDES = ["left", "top", "right", "bottom"];

/**
 * Have the controls work. Returns what is to be called with the share that is marked.
 * @param {() => Mask} mask
 * @param {() => Picture} picture the one that is masked
 */
export function connect(mask, picture) {
  for (const [id, erasing] of [["brush", false], ["eraser", true]]) {
    byId(id).addEventListener("click", () => {
      mask().erasing = erasing;
      byId("brush").ariaPressed = String(!erasing);
      byId("eraser").ariaPressed = String(erasing);
    });
  }
  byId("brush-size").addEventListener("input", () => { mask().brush = byId("brush-size").value / 100; });
  byId("clear").addEventListener("click", () => mask().clear());
  for (const id of SIDES) {
    byId(id).addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault(); // it would edit
      byId("rectangle").click();
    });
  }
  byId("rectangle").addEventListener("click", () => {
    const { width, height } = picture();
    const ends = [0, 0, width, height];
    const [left, top, right, bottom] = SIDES.map((id, index) => (byId(id).value === "" ? ends[index] : Number(byId(id).value)));
    if (!mask().rectangle(left, top, right, bottom)) tell("Nothing lies in it: right must be beyond left, and bottom beyond top.");
  });
  byId("whole").addEventListener("click", () => mask().rectangle(0, 0, picture().width, picture().height));
  byId("save-mask").addEventListener("click", async () => save(await mask().png()));
  return (share) => {
    const { width, height } = picture() ?? {};
    SIDES.forEach((id, index) => { byId(id).placeholder = [0, 0, width, height][index] ?? ""; });
    tell(share > 0 ? `${share < 0.01 ? "Less than 1" : Math.round(100 * share)} % of the picture may change` : "Nothing is marked: all of it may change");
  };
}

function tell(text) {
  byId("marked").textContent = text;
  byId("canvas").ariaLabel = `Mask: ${text}`;
}

function save(blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = "mask.png";
  link.click();
  URL.revokeObjectURL(link.href);
}
