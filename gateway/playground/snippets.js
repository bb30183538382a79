/** The same edit as a command and as a program. The key is never in them: both read it from the environment. */

const NUMBERS = ["num_inference_steps", "guidance_scale", "image_guidance_scale", "n", "seed"];
const OPENAI = ["prompt", "model", "size", "n"]; // arguments of OpenAI's SDK; the others go into `extra_body`

/** Text as one word of a POSIX shell. */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** A file as curl's -F takes it, whatever its name is. */
const file = (field, name) => quoted(`${field}=@"${name.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`);

/** The server's address, from the page's own. */
const base = () => new URL("v1/", document.baseURI).href;

/**
 * @param {Edit} edit
 * @param {boolean} keyed whether a key is needed
 */
export function curl(edit, keyed) {
  const parts = [
    ...edit.inputs.map((picture) => `-F ${file(edit.inputs.length > 1 ? "image[]" : "image", picture.name)}`),
    ...(edit.mask ? [`-F ${file("mask", "mask.png")}`] : []),
    ...Object.entries(edit.fields).map(([name, value]) => `--form-string ${quoted(`${name}=${value}`)}`),
  ];
  const key = keyed ? ' \\\n  -H "Authorization: Bearer $TRITOUCH_API_KEY"' : "";
  const decode = "import base64, json, sys; sys.stdout.buffer.write(base64.b64decode(json.load(sys.stdin)[\"data\"][0][\"b64_json\"]))";
  return `curl -sS ${quoted(`${base()}images/edits`)}${key} \\\n  ${parts.join(" \\\n  ")} |\n  python3 -c ${quoted(decode)} > edited.png\n`;
}

/**
 * @param {Edit} edit
 * @param {boolean} keyed whether a key is needed
 */
export function python(edit, keyed) {
  const literal = (name, value) => (NUMBERS.includes(name) ? value : JSON.stringify(value));
  const path = (name) => `Path(${JSON.stringify(name)})`;
  const fields = Object.entries(edit.fields).filter(([name]) => name !== "output_format");
  const own = fields.filter(([name]) => OPENAI.includes(name)), extra = fields.filter(([name]) => !OPENAI.includes(name));
  const images = edit.inputs.map((picture) => path(picture.name));
  const lines = [
    `image=${images.length > 1 ? `[${images.join(", ")}]` : images[0]},`,
    ...(edit.mask ? [`mask=${path("mask.png")},`] : []),
    ...own.map(([name, value]) => `${name}=${literal(name, value)},`),
    'output_format="png",',
    ...(extra.length ? [`extra_body={${extra.map(([name, value]) => `"${name}": ${literal(name, value)}`).join(", ")}},`] : []),
  ];
  const key = keyed ? 'os.environ["TRITOUCH_API_KEY"]' : '"none"';
  return `import base64
${keyed ? "import os\n" : ""}from pathlib import Path

from openai import OpenAI

with OpenAI(base_url=${JSON.stringify(base())}, api_key=${key}) as client:
    answer = client.images.edit(
        ${lines.join("\n        ")}
    )
for index, picture in enumerate(answer.data):
    Path(f"edited{index or ''}.png").write_bytes(base64.b64decode(picture.b64_json))
`;
}

/** Put text on the clipboard; where a page may not (plain HTTP on another machine), by an older way. */
export async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("This browser does not let the page copy.");
}
