/**
 * Where a program's standard input comes from.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import { reasonOfFile } from "../base/files.ts";

/** Input of a program. */
export interface StdinSource extends AsyncDisposable {
  /** What `run` takes. */
  readonly input: Uint8Array | AsyncIterable<Uint8Array>;
}

/** Up to this many bytes of a file go with the request: one message less in the microVM. */
const SMALL = 1 << 20;

/**
 * Opens the standard input of a program.
 *
 * @param path of a file; `-` or undefined is this process's own
 * @throws {CloudletError} `invalid-input` when the file cannot be read
 */
export async function openStdin(path: string | undefined): Promise<StdinSource> {
  if (path !== undefined && path !== "-") return await openFile(path);
  // A file that is our standard input is read on from where it stands, so it cannot be reopened.
  const info = await Deno.stat("/dev/stdin").catch(() => undefined);
  const nothing = info === undefined || (info.isCharDevice && !Deno.stdin.isTerminal());
  if (nothing) { // such as /dev/null
    return { input: new Uint8Array(), async [Symbol.asyncDispose]() {} };
  }
  if (info.isFile && info.size <= SMALL) {
    const input = new Uint8Array(await new Response(Deno.stdin.readable).arrayBuffer());
    return { input, async [Symbol.asyncDispose]() {} };
  }
  return {
    input: chunks(Deno.stdin),
    async [Symbol.asyncDispose]() {}, // a read under way ends with the process
  };
}

async function openFile(path: string): Promise<StdinSource> {
  let file: Deno.FsFile;
  try {
    file = await Deno.open(path);
  } catch (cause) {
    throw new CloudletError(`Cannot read the standard input ${path}: ${reasonOfFile(cause)}`, {
      code: "invalid-input",
      remedy: "give the path of a file that can be read",
      cause,
    });
  }
  let closed = false;
  const close = () => {
    if (!closed) file.close();
    closed = true;
  };
  const info = await file.stat();
  if (info.isFile && info.size <= SMALL) {
    const input = new Uint8Array(await new Response(file.readable).arrayBuffer());
    return { input, async [Symbol.asyncDispose]() {} };
  }
  return { input: chunks(file), [Symbol.asyncDispose]: () => Promise.resolve(close()) };
}

async function* chunks(
  source: { read(buffer: Uint8Array): Promise<number | null> },
): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(65536);
  for (let n = await source.read(buffer); n !== null; n = await source.read(buffer)) {
    yield buffer.slice(0, n);
  }
}
