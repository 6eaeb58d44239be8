/**
 * What installs packages, as processes of this host by way of the proxy that guests' connections take: pip
 * and npm say what a registry does wrong, and an archive is fetched once. Left out where there is no such tool.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { Authority } from "../../node/interception/authority.ts";
import { InterceptingProxy } from "../../node/interception/proxy.ts";
import { Downloads } from "../../node/downloads/downloads.ts";
import { npmRegistry, pipIndex, type Registry } from "./registries.ts";

async function has(...command: [string, ...string[]]): Promise<boolean> {
  try {
    const [program, ...args] = command;
    return (await new Deno.Command(program, { args, stderr: "null" }).output()).success;
  } catch {
    return false;
  }
}

/** A port that leads to a registry as a guest's connection does, and what was kept of it. */
async function behindProxy(registry: Registry, stack: AsyncDisposableStack) {
  const directory = await Deno.makeTempDir({ prefix: "cloudlet-test-" });
  stack.defer(() => Deno.remove(directory, { recursive: true }));
  const downloads = new Downloads(`${directory}/downloads`);
  const proxy = stack.use(
    await InterceptingProxy.open({
      ...{ secrets: [], downloads, warn: () => {} },
      authority: await Authority.open(`${directory}/authority`),
    }),
  );
  const sockets = new Set<Socket>();
  const front = createServer((guest) => {
    const inner = connect(proxy.port, "127.0.0.1");
    inner.write(`${proxy.token} 127.0.0.1 ${registry.port}\n`);
    for (const [one, other] of [[guest, inner], [inner, guest]] as const) {
      sockets.add(one);
      one.on("error", () => {});
      one.on("close", () => {
        sockets.delete(one);
        other.destroy();
      });
    }
    guest.pipe(inner).pipe(guest);
  });
  front.listen(0, "127.0.0.1");
  await once(front, "listening");
  stack.defer(() => {
    for (const socket of sockets) socket.destroy();
    front.close();
  });
  return { directory, downloads, port: (front.address() as { port: number }).port };
}

async function output(program: string, args: readonly string[], cwd: string) {
  const { success, stdout, stderr } = await new Deno.Command("timeout", {
    args: ["-s", "KILL", "60", program, ...args],
    env: { PIP_CONFIG_FILE: "/dev/null" },
    cwd,
  }).output();
  const decoder = new TextDecoder();
  return { success, said: decoder.decode(stdout) + decoder.decode(stderr) };
}

Deno.test({
  name: "pip fetches an archive once, and says what is wrong with others",
  ignore: !await has("python3", "-m", "pip", "--version"),
  async fn() {
    await using stack = new AsyncDisposableStack();
    const index = stack.use(await pipIndex());
    const { directory, downloads, port } = await behindProxy(index, stack);
    const pip = (name: string, goal: string) => {
      const options = ["--isolated", "--no-input", "--no-cache-dir", "--retries", "1"];
      const place = ["--index-url", `http://127.0.0.1:${port}/simple`, "--target", goal];
      return output("python3", ["-m", "pip", "install", ...options, ...place, name], directory);
    };
    const first = await pip("colours", "one");
    assert(first.success, first.said);
    const second = await pip("shades", "two");
    assert(second.success, second.said);
    const shades = index.asked.filter((path) => path.startsWith("/files/shades"));
    assert.deepEqual(shades, ["/files/shades-2.0-py3-none-any.whl"]);
    assert.equal(downloads.counts.kept, 1);
    const failures: Readonly<Record<string, RegExp>> = {
      "wrong-hash": /DO NOT MATCH THE HASHES/,
      "yanked": /No matching distribution found for yanked/,
      "missing": /No matching distribution found for missing/,
      "locked": /No matching distribution found for locked/,
      "limited": /No matching distribution found for limited/,
      "truncated": /is invalid|IncompleteRead|connection broken/i,
    };
    for (const [name, said] of Object.entries(failures)) {
      const failed = await pip(name, name);
      assert.equal(failed.success, false, name);
      assert.match(failed.said, said, `${name}: ${failed.said}`);
    }
    const twice = index.asked.filter((path) => path === "/simple/limited/");
    assert(twice.length >= 2, "Retry-After is heeded");
  },
});

Deno.test({
  name: "npm fetches an archive once, checks it, and keeps to its lock",
  ignore: !await has("npm", "--version"),
  async fn() {
    await using stack = new AsyncDisposableStack();
    const registry = stack.use(await npmRegistry());
    const { directory, port } = await behindProxy(registry, stack);
    const npm = async (name: string, manifest: object, ...words: string[]) => {
      await Deno.mkdir(`${directory}/${name}`, { recursive: true });
      await Deno.writeTextFile(`${directory}/${name}/package.json`, JSON.stringify(manifest));
      const own = [
        "--registry",
        `http://127.0.0.1:${port}/`,
        "--cache",
        `${directory}/cache-${name}`,
      ];
      return await output(
        "npm",
        [...words, ...own, "--fetch-retries=0", "--ignore-scripts", "--no-audit", "--no-fund"],
        `${directory}/${name}`,
      );
    };
    const needs = (range: string) => ({ private: true, dependencies: { leaf: range } });
    for (const name of ["one", "two"]) {
      const installed = await npm(name, needs("^1.0.0"), "install");
      assert(installed.success, installed.said);
    }
    const archives = registry.asked.filter((path) => path.endsWith(".tgz"));
    assert.deepEqual(archives, ["/leaf/-/leaf-1.1.0.tgz"]);
    const lock = `${directory}/one/package-lock.json`;
    const changed = (await Deno.readTextFile(lock)).replace(/sha512-[^"]{8}/, "sha512-AAAAAAAA");
    await Deno.mkdir(`${directory}/three`);
    await Deno.writeTextFile(`${directory}/three/package-lock.json`, changed);
    const damaged = await npm("three", needs("^1.0.0"), "ci");
    assert.equal(damaged.success, false);
    assert.match(damaged.said, /EINTEGRITY/);
    const missing = await npm("four", needs("^9.0.0"), "install");
    assert.match(missing.said, /ETARGET|notarget/i);
  },
});
