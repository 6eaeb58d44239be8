/** `cloudlet serve` as a process of its own; no run is started, so no /dev/kvm is needed. */
import { deepEqual, equal, match, rejects, throws } from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Keys } from "../api/http/keys.ts";
import { denoDir } from "../test/paths.ts";
import { RunStore } from "../service/run_store.ts";
import { parseAddress, parseWarm } from "./serve.ts";

const MOD = fileURLToPath(new URL("../mod.ts", import.meta.url));

function cloudlet(args: readonly string[], env: Record<string, string> = {}): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", "--no-check", MOD, ...args],
    env,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Waits until the server tells its addresses. */
async function addressOf(server: Deno.ChildProcess) {
  const reader = server.stderr.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!/VmmService on \S+\n/.test(text)) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`the server ended: ${text}`);
    text += value;
  }
  return {
    url: /HTTP API on (\S+),/.exec(text)![1]!,
    async rest() {
      let rest = "";
      for (let step = await reader.read(); !step.done; step = await reader.read()) {
        rest += step.value;
      }
      return rest;
    },
  };
}

async function* walk(directory: string): AsyncGenerator<Deno.DirEntry> {
  for await (const entry of Deno.readDir(directory)) {
    yield entry;
    if (entry.isDirectory) yield* walk(join(directory, entry.name));
  }
}

async function withState(test: (args: string[]) => Promise<void>): Promise<void> {
  const state = await Deno.makeTempDir();
  try {
    await test(["serve", "--api", "localhost:0", "--vmm", "localhost:0", "--state", state]);
  } finally {
    await Deno.remove(state, { recursive: true });
  }
}

Deno.test("a server ends in order on SIGTERM, and starts again after kill -9", () =>
  withState(async (args) => {
    for (const signal of ["SIGKILL", "SIGTERM"] as const) {
      const server = cloudlet(args);
      const { url, rest } = await addressOf(server);
      equal((await (await fetch(`${url}/healthz`)).json()).status, "ok");
      const second = await cloudlet(args).output();
      equal(second.code, 1);
      match(new TextDecoder().decode(second.stderr), /another cloudlet server has it open/);
      server.kill(signal);
      const { code } = await server.status;
      equal(code, signal === "SIGTERM" ? 0 : 137);
      await rest();
      await server.stdout.cancel();
    }
  }));

Deno.test("a server that is asked to end while it builds ends in order", () =>
  withState(async (args) => {
    const asked = Promise.withResolvers<void>();
    const answer = Promise.withResolvers<Response>();
    // A mirror that does not answer: the build is under way for as long as the test wants.
    await using mirror = Deno.serve({ hostname: "localhost", port: 0, onListen() {} }, () => {
      asked.resolve();
      return answer.promise;
    });
    const directory = args.at(-1)!;
    const left = join(directory, "cache", "cloudlet", "kernels", ".tmp-of-0123456789ab");
    await Deno.mkdir(left, { recursive: true });
    const server = cloudlet(args, {
      XDG_CACHE_HOME: join(directory, "cache"),
      XDG_CONFIG_HOME: join(directory, "config"),
      DENO_DIR: denoDir(),
      CLOUDLET_DEBIAN_MIRROR: `http://localhost:${mirror.addr.port}/debian`,
    });
    const { url, rest } = await addressOf(server);
    await rejects(Deno.stat(left), Deno.errors.NotFound); // of a process that is no more
    const response = await fetch(`${url}/run`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ language: "bash", code: "echo", id: "building" }),
    });
    await asked.promise;
    server.kill("SIGTERM");
    const events = await response.text().finally(() => answer.resolve(new Response()));
    match(events, /"stage":"Failed".*"exit_code":137.*\n\n$/);
    equal((await server.status).code, 0);
    await rest();
    await server.stdout.cancel();
    for await (const { name } of walk(join(directory, "cache"))) {
      equal(name.startsWith(".tmp-"), false, name);
    }
    using store = await RunStore.open(join(directory, "runs.sqlite"));
    equal(store.get("building")?.outcome, "stopped");
  }));

Deno.test("a client names no registry but those that the operator lists", () =>
  withState(async (args) => {
    const directory = args.at(-1)!;
    const env = {
      XDG_CACHE_HOME: join(directory, "cache"),
      XDG_CONFIG_HOME: join(directory, "config"),
      DENO_DIR: denoDir(),
      CLOUDLET_DEBIAN_MIRROR: "http://localhost:1/debian",
    };
    await Deno.mkdir(join(directory, "config/cloudlet"), { recursive: true });
    await Deno.writeTextFile(
      join(directory, "config/cloudlet/config.toml"),
      '[registry]\nallowed = ["settings.example"]\ninsecure = ["plain.example:5000"]\n',
    );
    const flag = ["--allow-registry", "docker.io"];
    for (const [more, listed] of [[[], "settings.example"], [flag, "docker.io"]] as const) {
      const server = cloudlet([...args, ...more], env);
      const { url, rest } = await addressOf(server);
      const ask = async (image: unknown) => {
        const response = await fetch(`${url}/run`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ language: "command", image, args: ["true"] }),
        });
        return await response.text();
      };
      match(await ask("169.254.169.254/x"), /"detail":"[^"]*does not pull from that registry/);
      match(await ask("other.example/x"), new RegExp(`use one of ${listed}, plain.example:5000`));
      const insecure = { from: `${listed}/x`, insecure: true };
      match(await ask(insecure), /only the server's operator may choose http/);
      server.kill("SIGTERM");
      equal((await server.status).code, 0);
      await rest();
      await server.stdout.cancel();
    }
    const wrong = await cloudlet([...args, "--allow-registry", "https://a"]).output();
    equal(wrong.code, 2);
    match(new TextDecoder().decode(wrong.stderr), /write HOST or HOST:PORT/);
  }));

Deno.test("an address that others reach needs keys, and the key command makes them", () =>
  withState(async (args) => {
    const open = [...args, "--api", "0.0.0.0:0"].toSpliced(1, 2);
    const refused = await cloudlet(open).output();
    equal(refused.code, 2);
    match(new TextDecoder().decode(refused.stderr), /others reach it, and no API key/);

    const made = await cloudlet(["key", "alice"]).output();
    const key = /clt_\S+/.exec(new TextDecoder().decode(made.stderr))![0];
    const keys = join(args.at(-1)!, "keys");
    await Deno.writeFile(keys, made.stdout);
    equal((await Deno.readTextFile(keys)).includes(key), false);
    equal((await Keys.read(keys)).check(`Bearer ${key}`), "alice");

    const server = cloudlet([...open, "--keys", keys]);
    const { url, rest } = await addressOf(server);
    const address = url.replace("0.0.0.0", "127.0.0.1");
    const list = (env: Record<string, string>) =>
      cloudlet(["ps", "--all", "--json", "--server", address], env).output();
    equal((await list({ CLOUDLET_API_KEY: "" })).code, 1);
    equal((await list({ CLOUDLET_API_KEY: key })).code, 0);
    server.kill("SIGTERM");
    equal((await server.status).code, 0);
    await rest();
    await server.stdout.cancel();
  }));

Deno.test("prewarmed VMs are of a language, with a version or without one", () => {
  deepEqual(parseWarm("python=2"), { language: "python", version: undefined, count: 2 });
  deepEqual(parseWarm("python@3.11=1"), { language: "python", version: "3.11", count: 1 });
  for (const bad of ["python", "python@=1", "python@2=1", "pyton@3.11=1", "python=x"]) {
    throws(() => parseWarm(bad), { code: "invalid-input" }, bad);
  }
});

Deno.test("addresses are read with and without a host", () => {
  equal(parseAddress("3000").hostname, "localhost");
  equal(parseAddress("[::1]:3000").hostname, "::1");
  equal(parseAddress("example.org:80").port, 80);
  for (const bad of ["", "host", "host:", "host:99999", "a:b:1"]) {
    throws(() => parseAddress(bad), { code: "invalid-input" });
  }
});
