/** Server-sent events, read from the body of a `fetch()`: EventSource can neither POST nor send a key. */

/**
 * The data of each event, parsed as JSON, in order. Comments (pings) are skipped.
 * @param {AsyncIterable<string>} texts pieces of the stream, cut anywhere, between \r and \n too
 */
export async function* events(texts) {
  let line = "", data = [], afterReturn = false;
  for await (let text of texts) {
    if (afterReturn && text.startsWith("\n")) text = text.slice(1);
    if (!text) continue;
    afterReturn = text.endsWith("\r");
    const pieces = text.split(/\r\n|\r|\n/);
    for (const [index, piece] of pieces.entries()) {
      line += piece;
      if (index === pieces.length - 1) break; // not ended yet
      if (line === "" && data.length) {
        yield JSON.parse(data.join("\n"));
        data = [];
      }
      if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
      line = "";
    }
  }
}

/**
 * The body of an answer as text, as it arrives.
 * @param {ReadableStream<Uint8Array>} body
 */
export async function* texts(body) {
  const reader = body.getReader(), decoder = new TextDecoder();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield decoder.decode(value, { stream: true });
  }
}
