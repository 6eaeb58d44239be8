/**
 * The page that shows the OpenAPI document and lets one try it. Our own, since the usual ones bring
 * megabytes that every user of the command line would have to fetch.
 *
 * @module
 */

/** The page. */
export const DOCS_HTML = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>cloudlet API</title>
<style>
  :root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
  body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
  summary { cursor: pointer; padding: .35rem 0; }
  .method { display: inline-block; width: 5rem; font-weight: 700; }
  code, pre, textarea, input { font: 13px/1.5 ui-monospace, monospace; }
  pre { overflow: auto; max-height: 30rem; padding: .6rem; background: #8882; border-radius: 4px; }
  textarea { width: 100%; box-sizing: border-box; min-height: 9rem; }
  table { border-collapse: collapse; } td { padding: .1rem 1rem .1rem 0; vertical-align: top; }
  section { margin: 0 0 1rem 1rem; }
</style>
<h1>cloudlet API</h1>
<p id="about"></p>
<p><label>API key <input id="key" type="password" autocomplete="off" size="50"></label></p>
<main id="operations">Loading the <a href="openapi.json">OpenAPI document</a>.</main>
<h2>Schemas</h2>
<div id="schemas"></div>
<script src="docs.js" type="module"></script>
</html>
`;

/** Its script. */
export const DOCS_SCRIPT = `
const make = (tag, text, ...children) => {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
};
const byId = (id) => document.getElementById(id);
const json = (value) => JSON.stringify(value, null, 2);

const api = await (await fetch("openapi.json")).json();
byId("about").textContent = api.info.description + " Version " + api.info.version + ".";
byId("operations").replaceChildren(
  ...Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => show(method, path, operation))
  ),
);
byId("schemas").replaceChildren(
  ...Object.entries(api.components.schemas).map(([name, schema]) =>
    make("details", "", make("summary", name), make("pre", json(schema)))
  ),
);

function show(method, path, operation) {
  const name = make("span", method.toUpperCase());
  name.className = "method";
  const summary = make("summary", "", name, make("code", path), " " + operation.summary);
  const section = make("section", operation.description ?? "");
  const inputs = (operation.parameters ?? []).map((parameter) => {
    const input = make("input");
    section.append(make("p", "", make("label", parameter.name + " ", input)));
    return { parameter, input };
  });
  const example = operation.requestBody?.content["application/json"].example;
  const body = example === undefined ? undefined : make("textarea", json(example));
  if (body) section.append(body);
  const rows = Object.entries(operation.responses).map(([status, response]) =>
    make("tr", "", make("td", status), make("td", response.description))
  );
  const send = make("button", "Send");
  const output = make("pre");
  output.hidden = true;
  section.append(make("p", "", send), output, make("table", "", ...rows));
  let running;
  send.onclick = async () => {
    if (running) return running.abort();
    running = new AbortController();
    send.textContent = "Stop";
    output.hidden = false;
    output.textContent = "";
    try {
      await call(method, path, inputs, body, output, running.signal);
    } catch (error) {
      output.append(String(error));
    }
    running = undefined;
    send.textContent = "Send";
  };
  return make("details", "", summary, section);
}

async function call(method, path, inputs, body, output, signal) {
  let address = path.slice(1);
  const query = new URLSearchParams();
  for (const { parameter, input } of inputs) {
    if (parameter.in === "path") {
      address = address.replace("{" + parameter.name + "}", encodeURIComponent(input.value));
    } else if (input.value !== "") query.set(parameter.name, input.value);
  }
  const headers = {};
  if (byId("key").value !== "") headers.authorization = "Bearer " + byId("key").value;
  if (body) headers["content-type"] = "application/json";
  const response = await fetch(address + (query.size > 0 ? "?" + query : ""), {
    method: method.toUpperCase(),
    headers,
    body: body?.value,
    signal,
  });
  output.append(response.status + " " + response.statusText + "\\n\\n");
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let step = await reader.read(); !step.done; step = await reader.read()) {
    output.append(step.value);
  }
}
`;
