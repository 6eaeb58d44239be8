/** The API's page in a browser, when Debian's chromium is installed. */
import { deepEqual, equal, match } from "node:assert/strict";
import { oracle } from "./oracle.ts";
import { testService } from "./service.ts";

Deno.test({
  name: "the page of the API shows every operation in a browser, and breaks none of its own rules",
  ignore: !await oracle("chromium"),
  async fn() {
    await using test = await testService();
    const { paths } = await (await fetch(`${test.url}/openapi.json`)).json();
    const { stdout, stderr } = await new Deno.Command("chromium", {
      args: [
        // As root, chromium runs only without its sandbox; the page is ours.
        ...["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"],
        ...["--virtual-time-budget=10000", "--dump-dom", `${test.url}/docs`],
      ],
    }).output();
    const page = new TextDecoder().decode(stdout);
    const shown = [...page.matchAll(/class="method">(\w+)<\/span><code>([^<]+)/g)]
      .map(([, method, path]) => `${method} ${path}`);
    const described = Object.entries(paths as Record<string, object>).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`)
    );
    equal(shown.join("\n"), described.join("\n"));
    match(page, /<summary>RunRequest<\/summary>/);
    equal(
      /Content Security Policy|Uncaught/.exec(new TextDecoder().decode(stderr))?.[0],
      undefined,
    );
  },
});

/** A page that sends an unsafe request to `target`, and then says so. */
const page = (target: string) =>
  `<!doctype html><p id="p">waiting</p><script type="module">
    const how = await fetch(${JSON.stringify(target)}, { method: "POST", mode: "no-cors" })
      .then(({ type, status }) => type + " " + status, String);
    document.getElementById("p").textContent = "answered: " + how;
  </script>`;

Deno.test({
  name: "in a browser, a page of another port cannot end the runs, and one of the same origin can",
  ignore: !await oracle("chromium"),
  async fn() {
    await using test = await testService();
    // A site of its own at /other, and a proxy in front of the API.
    let seen: string | null = null;
    await using site = Deno.serve({ hostname: "localhost", port: 0, onListen() {} }, (request) => {
      const { pathname, searchParams } = new URL(request.url);
      if (pathname === "/page") {
        const headers = { "content-type": "text/html" };
        return new Response(page(searchParams.get("target")!), { headers });
      }
      seen = request.headers.get("sec-fetch-site");
      const headers = new Headers(request.headers);
      return fetch(test.url + pathname, { method: request.method, headers, client });
    });
    using client = Deno.createHttpClient({ allowHost: true });
    const own = `http://localhost:${site.addr.port}`;
    const visit = async (target: string) => {
      const { stdout } = await new Deno.Command("chromium", {
        args: [
          ...["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000"],
          ...["--dump-dom", `${own}/page?target=${encodeURIComponent(target)}`],
        ],
        stderr: "null",
      }).output();
      return /answered: [^<]*/.exec(new TextDecoder().decode(stdout))?.[0];
    };
    const run = await fetch(`${test.url}/run`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ language: "bash", code: "sleep 1000", id: "long" }),
    });
    equal(await visit(`${test.url}/shutdown`), "answered: opaque 0");
    const rpc = "vmmorchestrator.VmmService/Shutdown";
    await visit(`${test.vmmUrl}/${rpc}`);
    deepEqual(test.service.orchestrator.active, ["long"]);
    equal(await visit(`${own}/shutdown`), "answered: basic 200");
    equal(seen, "same-origin");
    match(await run.text(), /"exit_code":137/);
  },
});
