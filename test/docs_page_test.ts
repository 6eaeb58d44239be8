/** The API's page in a browser, when Debian's chromium is installed. */
import { equal, match } from "node:assert/strict";
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
