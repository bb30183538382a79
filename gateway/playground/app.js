/** Puts the page together: what each control does, and one edit at a time. */

import { Api, Refused } from "./api.js";
import { History } from "./history.js";
import { Mask } from "./mask.js";
import { connect } from "./mask_tools.js";
import { Options } from "./options.js";
import { Pictures, onDropOrPaste } from "./pictures.js";
import { Running } from "./running.js";
import { copy, curl, python } from "./snippets.js";
import { Stage } from "./stage.js";

const RETRY_MS = 3000;
const byId = (id) => document.getElementById(id);

const api = new Api(), stage = new Stage(), options = new Options();
const pictures = new Pictures(byId("pictures"), changed);
const mask = new Mask(byId("canvas"), connect(() => mask, () => pictures.first));
const history = new History(byId("history"), show);
let leave = null; // ends the edit that runs
let keyed = false; // whether the server wants a key

const say = (text) => { byId("live").textContent = text; };

// What the model offers ------------------------------------------------------------------------------------------------

async function offer() {
  try {
    const models = await api.models(), [base] = models;
    pictures.most = base.max_images ?? 1;
    byId("files").multiple = pictures.most > 1;
    byId("files-label").textContent = pictures.most > 1 ? `Pictures (up to ${pictures.most})` : "Picture";
    byId("mask-tools").dataset.served = String(Boolean(base.masks));
    options.offer(models);
    byId("server").textContent = "Ready";
    showMask();
  } catch (error) {
    byId("server").textContent = error.message;
    if (error.status === 401) askForKey(error);
    else setTimeout(offer, RETRY_MS);
  }
}

function askForKey(error) {
  keyed = true;
  byId("key-field").hidden = false;
  if (api.hasKey) complain(error, byId("key"));
}

byId("key").addEventListener("change", () => {
  api.key = byId("key").value;
  forgive();
  offer();
});

// Pictures and the mask ------------------------------------------------------------------------------------------------

function changed() {
  history.select(null);
  if (!pictures.first) stage.empty();
  else {
    mask.reset(pictures.first);
    stage.picture(pictures.first, painting());
  }
  showMask();
}

async function take(files) {
  forgive();
  if (leave) return;
  try {
    await pictures.add(files);
    byId("prompt").focus();
  } catch (error) {
    complain(error, byId("files"));
  }
}

function painting() { return byId("mask-tools").open && !byId("mask-tools").hidden; }

function showMask() {
  byId("mask-tools").hidden = byId("mask-tools").dataset.served !== "true" || !pictures.first;
}

byId("mask-tools").addEventListener("toggle", () => {
  if (pictures.first && !leave && (painting() || !history.current)) stage.picture(pictures.first, painting());
});
byId("choose").addEventListener("click", () => byId("files").click());
byId("files").addEventListener("change", async () => {
  await take(byId("files").files);
  byId("files").value = "";
});
byId("sample").addEventListener("click", async () => {
  const blob = await (await fetch("playground/sample.jpg")).blob();
  await take([new File([blob], "cat.jpg", { type: blob.type })]);
});
onDropOrPaste(take);

// One edit -------------------------------------------------------------------------------------------------------------

byId("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("form").requestSubmit();
});
byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!leave) edit();
});
byId("cancel").addEventListener("click", () => leave?.abort());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") leave?.abort();
});

async function edit() {
  forgive();
  if (!pictures.first) return complain(new Error("Choose a picture first."), byId("files"));
  const asked = { inputs: pictures.all, fields: { prompt: byId("prompt").value, ...options.fields }, mask: null };
  if (painting() && mask.share() > 0) asked.mask = await mask.png();
  begin();
  const running = new Running(stage, Number(asked.fields.n ?? 1), say);
  try {
    for await (const event of api.edit(formOf(asked), leave.signal)) {
      const made = await running.take(event);
      if (made) finished(asked, made);
    }
    if (!running.done) throw new Refused("The connection broke before the picture was done.");
    end(running);
    say("The edited picture is there");
  } catch (error) {
    end(running);
    failed(error);
  }
}

function begin() {
  leave = new AbortController();
  byId("edit").ariaDisabled = "true";
  stage.begin(pictures.first);
  say("The edit has begun");
}

function end(running) {
  const lost = document.activeElement === byId("cancel"); // which goes away
  running.end();
  stage.end();
  leave = null;
  byId("edit").ariaDisabled = "false";
  if (lost) byId(running.done ? "slider" : "prompt").focus();
}

function formOf({ inputs, fields, mask: painted }) {
  const form = new FormData();
  for (const { blob, name } of inputs) form.append(inputs.length > 1 ? "image[]" : "image", blob, name);
  if (painted) form.append("mask", painted, "mask.png");
  const streamed = { output_format: "png", stream: "true", progress: "true", partial_images: "2" };
  for (const [name, value] of Object.entries({ ...fields, ...streamed })) form.append(name, value);
  return form;
}

function finished(asked, { picture, event }) {
  const seed = String(event.seed ?? asked.fields.seed ?? "");
  const { n: _, ...fields } = asked.fields; // the snippets make this one picture
  if (seed) options.seed = asked.fields.seed ?? seed;
  history.add({ ...asked, fields: { ...fields, ...(seed && { seed }) }, before: asked.inputs[0], after: picture, seed });
}

function failed(error) {
  if (history.current) stage.result(history.current);
  else stage.picture(pictures.first, painting());
  if (error.name === "AbortError") return say("Cancelled");
  if (error.status === 401) askForKey(error);
  complain(error, byId(error.param) ?? (error.status === 401 ? byId("key") : byId("prompt")));
}

// Errors, in place -----------------------------------------------------------------------------------------------------

/** Show an error, and put the cursor where it can be mended. */
function complain(error, field) {
  byId("error").textContent = error.message;
  byId("error").hidden = false;
  field.ariaInvalid = "true";
  field.setAttribute("aria-errormessage", "error");
  const folded = field.closest("details");
  if (folded) folded.open = true;
  field.focus();
}

function forgive() {
  byId("error").hidden = true;
  for (const field of document.querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-errormessage");
  }
}

// What to do with a result ---------------------------------------------------------------------------------------------

function show(edit) {
  byId("download").href = edit.after.url;
  byId("download").download = edit.after.name;
  stage.result(edit);
}

byId("reuse").addEventListener("click", () => {
  const { after } = history.current;
  pictures.replace([{ ...after, url: URL.createObjectURL(after.blob) }]);
  byId("prompt").select();
});
for (const [id, write] of [["curl", curl], ["python", python]]) {
  byId(id).addEventListener("click", async () => {
    try {
      await copy(write(history.current, keyed));
      said(byId(id));
    } catch (error) {
      complain(error, byId(id));
    }
  });
}

/** Say on a button that it has done its work, for a moment. */
function said(button) {
  const label = button.dataset.label ??= button.textContent;
  button.textContent = "Copied";
  say("Copied");
  setTimeout(() => { button.textContent = label; }, 1500);
}

offer();
