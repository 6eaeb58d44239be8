/** Caches for tests, with entries that hold nothing of use, and processes that use them. */
import { dirname, join } from "node:path";
import { Store } from "../store.ts";
import { type About, writeAbout } from "./about.ts";

/** Bytes of an entry's content. */
export const BYTES = 64 * 1024;

/** Has a test use a cache of its own. */
export async function withCache(test: (root: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "cloudlet-cache-" });
  try {
    await test(join(directory, "cloudlet"));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** Makes an entry `<kind>/<key>`, used so many minutes ago. */
export async function makeEntry(
  root: string,
  id: string,
  { minutes = 0, bytes = BYTES, ...about }: Partial<About> & { minutes?: number; bytes?: number } =
    {},
): Promise<string> {
  const path = join(root, id);
  await new Store(dirname(path)).getOrMake(id.slice(id.indexOf("/") + 1), async (directory) => {
    await Deno.writeFile(join(directory, "content"), new Uint8Array(bytes).fill(1));
    await writeAbout(directory, { needs: [], ofProgram: false, ...about });
  });
  const used = new Date(Date.now() - minutes * 60_000);
  await Deno.utime(path, used, used);
  return path;
}

/** Makes a file `<kind>/<part>/<name>`, used so many minutes ago. */
export async function makeFile(root: string, id: string, minutes = 0): Promise<string> {
  const path = join(root, id);
  await Deno.mkdir(dirname(path), { recursive: true });
  await Deno.writeFile(path, new Uint8Array(BYTES).fill(1));
  const used = new Date(Date.now() - minutes * 60_000);
  await Deno.utime(path, used, used);
  return path;
}

/** A process that runs `code`, a module with `$(name)` for modules of base/, until it is killed. */
export class Other implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;
  #rest = "";

  /** @param code may import `@/cache/lease.ts`, of base/ */
  constructor(code: string) {
    const base = new URL("../", import.meta.url).href;
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["eval", "--quiet", code.replaceAll('"@/', `"${base}`)],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    this.#lines = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** The next line that it prints. */
  async line(): Promise<string> {
    while (!this.#rest.includes("\n")) {
      const { value, done } = await this.#lines.read();
      if (done) throw new Error(`it ended; it had printed ${JSON.stringify(this.#rest)}`);
      this.#rest += value;
    }
    const end = this.#rest.indexOf("\n");
    const line = this.#rest.slice(0, end);
    this.#rest = this.#rest.slice(end + 1);
    return line;
  }

  /** Waits for its own end. */
  async ended(): Promise<number> {
    return (await this.#child.status).code;
  }

  /** Kills it, if it has not ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // it has ended
    }
    await this.#child.status;
    await this.#lines.cancel();
    await this.#child.stdin.close().catch(() => {});
  }
}

/** A process that holds leases of entries until it is killed. */
export async function holder(root: string, ...ids: string[]): Promise<Other> {
  const other = new Other(`import { lease } from "@/cache/lease.ts";
    for (const id of ${JSON.stringify(ids)}) {
      if (await lease(${JSON.stringify(root)} + "/" + id) === undefined) throw new Error(id);
    }
    console.log("held");
    setInterval(() => {}, 1000);`);
  await other.line();
  return other;
}
