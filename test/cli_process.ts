/**
 * The command line as a process of its own, on a server whose agents are processes of this host.
 *
 * @module
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { testService } from "./service.ts";

const MOD = fileURLToPath(new URL("../mod.ts", import.meta.url));

/** How a command ended. */
export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** How the command is started. */
export interface Start {
  readonly stdin?: "piped" | "null";
  /** Its current directory; the test's when absent. */
  readonly directory?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** A command under way. */
export class Cloudlet {
  readonly #process: Deno.ChildProcess;

  constructor(args: readonly string[], { stdin = "null", directory, env }: Start = {}) {
    this.#process = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--quiet", "--no-check", MOD, ...args],
      stdin,
      ...(directory !== undefined && { cwd: directory }),
      ...(env !== undefined && { env }),
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  }

  kill(signal: Deno.Signal): void {
    this.#process.kill(signal);
  }

  async feed(input: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    await input.pipeTo(this.#process.stdin);
  }

  /** Reads until the text was seen on standard output; the rest is left. */
  async until(text: string): Promise<ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>> {
    const reader = this.#process.stdout.getReader();
    let seen = "";
    while (!seen.includes(text)) {
      const { value, done } = await reader.read();
      if (done) throw new Error(`the command ended after ${JSON.stringify(seen)}`);
      seen += new TextDecoder().decode(value);
    }
    return reader;
  }

  /** What it writes to standard output. */
  output(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#process.stdout;
  }

  async stderr(): Promise<string> {
    return await new Response(this.#process.stderr).text();
  }

  async code(): Promise<number> {
    return (await this.#process.status).code;
  }

  async ended(): Promise<Ended> {
    const { code, stdout, stderr } = await this.#process.output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    return { code, stdout: text(stdout), stderr: text(stderr) };
  }
}

/** Has a test run commands on a server, with these files in a directory that ends with it. */
export async function withServer(
  files: Readonly<Record<string, string>>,
  test: (
    cloudlet: (args: readonly string[], start?: Start) => Cloudlet,
    path: (name: string) => string,
    active: () => readonly string[],
  ) => Promise<void>,
): Promise<void> {
  await using server = await testService();
  const directory = await Deno.makeTempDir();
  try {
    for (const [name, content] of Object.entries(files)) {
      await Deno.mkdir(join(directory, name, ".."), { recursive: true });
      await Deno.writeTextFile(join(directory, name), content);
    }
    await test(
      ([command, ...args], start) =>
        new Cloudlet([command!, "--server", server.url, ...args], start),
      (name) => join(directory, name),
      () => server.service.orchestrator.active,
    );
    while (server.service.orchestrator.active.length > 0) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}
