/** Puts the page together: what each control does, and one edit at a time. */

import { Api, Refused } from "./api.js";
import { History } from "./history.js";
import { Mask } from "./mask.js";
import { connect } from "./mask_tools.js";
import { Options, seedOf } from "./options.js";
import { Pictures, onDropOrPaste } from "./pictures.js";
import { Running } from "./running.js";
import { copy, curl, python } from "./snippets.js";
import { Stage } from "./stage.js";

const RETRY_MS = 3000;
/** The control of a field of the API, where it has another name. */
const CONTROLS = { image: "files", mask: "rectangle", size: "width" };
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
    tell("Ready");
    showMask();
  } catch (error) {
    tell(error.message);
    if (error.status === 401) askForKey(error);
    else setTimeout(offer, RETRY_MS);
  }
}

/** Say how the server is; what is said already is not announced again. */
function tell(text) {
  if (byId("server").textContent !== text) byId("server").textContent = text;
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
byId("key").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault(); // it would edit
  byId("key").blur();
  byId("prompt").focus();
});

// Pictures and the mask ------------------------------------------------------------------------------------------------

function changed() {
  history.select(null);
  if (pictures.first) mask.reset(pictures.first);
  showInput();
  showMask();
}

function showInput() {
  if (pictures.first) stage.picture(pictures.first, painting());
  else stage.empty();
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
  if (leave) return;
  if (history.current && !painting()) show(history.current);
  else showInput();
});
byId("mask-tools").addEventListener("click", (event) => {
  if (!leave && painting() && !event.target.closest("summary")) showInput(); // where a result is shown, paint again
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
  if (!byId("prompt").value.trim()) return complain(new Error("Say what to change first."), byId("prompt"));
  const asked = { inputs: pictures.all, fields: { prompt: byId("prompt").value, ...options.fields }, mask: null };
  if (painting() && mask.share() > 0) asked.mask = await mask.png();
  begin();
  const running = new Running(stage, Number(asked.fields.n ?? 1), say);
  try {
    for await (const event of api.edit(formOf(asked), leave.signal)) {
      const made = await running.take(event);
      if (made) await finished(asked, made);
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

async function finished(asked, { picture, event }) {
  const { n: _, ...fields } = asked.fields; // the snippets make this one picture
  const seed = seedOf(asked.fields.seed, event);
  if (seed) fields.seed = seed;
  options.seed = asked.fields.seed ?? seed;
  await history.add({ ...asked, fields, before: asked.inputs[0], after: picture });
}

function failed(error) {
  if (history.current) show(history.current);
  else showInput();
  if (error.name === "AbortError") return say("Cancelled");
  if (error.status === 401) askForKey(error);
  complain(error, byId(CONTROLS[error.param] ?? error.param) ?? byId(error.status === 401 ? "key" : "prompt"));
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
  return stage.result(edit);
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
