// What a response brings, piece by piece as it comes.

// Its lines, without their ends.
export async function* linesOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) yield line.endsWith("\r") ? line.slice(0, -1) : line;
    }
    if (rest) yield rest;
  } finally {
    reader.cancel().catch(() => {});
  }
}

// Its lines of JSON.
export async function* valuesOf(response) {
  for await (const line of linesOf(response)) if (line) yield JSON.parse(line);
}

// Its server-sent events, as {kind, data}; EventSource would do, but sends no API key.
export async function* eventsOf(response) {
  let kind = "";
  let data = [];
  for await (const line of linesOf(response)) {
    if (line === "") {
      if (data.length) yield { kind: kind || "message", data: data.join("\n") };
      [kind, data] = ["", []];
    } else if (line.startsWith("event:")) kind = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
  }
}
