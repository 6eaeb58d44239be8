/**
 * Where a program's standard input comes from, and what becomes of what the program does not read.
 *
 * ```text
 * a file (`< list`)       up to 1 MiB of it goes with the request, more when the program reads; at
 *                         the end the file's offset is put behind what the program has read
 * a pipe, a terminal      nothing is read before the program reads; then as much as it takes, and
 *                         up to some 200 KiB more, which is lost
 * a file that is named    is ours alone
 * ```
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import { reasonOfFile } from "../base/files.ts";
import { libc } from "../ffi/libc.ts";

/** Input of a program. */
export interface StdinSource extends AsyncDisposable {
  /** What `run` takes. */
  readonly input: Uint8Array | AsyncIterable<Uint8Array>;
  /**
   * Leaves to the next reader of our standard input what the program has not read, where it is a file.
   *
   * @param read bytes that it has read; nothing is done when that is not known
   */
  putBack(read: number | undefined): Promise<void>;
}

/** Up to this many bytes of a file go with the request: one message less in the microVM. */
const SMALL = 1 << 20;

const NOTHING: StdinSource = {
  input: new Uint8Array(),
  putBack: () => Promise.resolve(),
  async [Symbol.asyncDispose]() {},
};

/**
 * Opens the standard input of a program.
 *
 * @param path of a file; `-` or undefined is this process's own, false is none
 * @throws {CloudletError} `invalid-input` when the file cannot be read
 */
export async function openStdin(path: string | false | undefined): Promise<StdinSource> {
  if (path === false) return NOTHING;
  if (path !== undefined && path !== "-") return await openFile(path);
  // A file that is our standard input is read on from where it stands, so it cannot be reopened.
  const info = await Deno.stat("/dev/stdin").catch(() => undefined);
  if (info === undefined || (info.isCharDevice && !Deno.stdin.isTerminal())) {
    return NOTHING; // such as /dev/null
  }
  if (!info.isFile) {
    return { ...NOTHING, input: chunks(Deno.stdin) }; // a read under way ends with the process
  }
  const start = offset(0n, SEEK_CUR);
  let reading: Promise<unknown> = Promise.resolve();
  let over = false;
  const source = {
    read(buffer: Uint8Array): Promise<number | null> {
      if (over) return Promise.resolve(null);
      const read = Deno.stdin.read(buffer);
      reading = read.catch(() => {});
      return read;
    },
  };
  const input = info.size - Number(start) <= SMALL
    ? new Uint8Array(await new Response(ReadableStream.from(chunks(source))).arrayBuffer())
    : chunks(source);
  return {
    ...NOTHING,
    input,
    async putBack(read) {
      over = true;
      if (read === undefined || start < 0n) return;
      await reading; // which would move the offset once more
      offset(start + BigInt(read), SEEK_SET);
    },
  };
}

// include/uapi/linux/fs.h
const SEEK_SET = 0;
const SEEK_CUR = 1;

/** Moves the offset of our standard input (lseek(2)), which our parent shares; -1 when it has none. */
function offset(to: bigint, whence: number): bigint {
  return libc().lseek(0, to, whence);
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
    return { ...NOTHING, input: new Uint8Array(await new Response(file.readable).arrayBuffer()) };
  }
  return {
    ...NOTHING,
    input: chunks(file),
    [Symbol.asyncDispose]: () => Promise.resolve(close()),
  };
}

async function* chunks(
  source: { read(buffer: Uint8Array): Promise<number | null> },
): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(65536);
  for (let n = await source.read(buffer); n !== null; n = await source.read(buffer)) {
    yield buffer.slice(0, n);
  }
}
