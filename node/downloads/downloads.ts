/**
 * What guests fetched when packages were installed, for all projects of this host: a shared cache of HTTP
 * (RFC 9111), filled by this process only, from servers that a policy let the guest reach.
 *
 * ```text
 * <cache>/downloads/content/<sha256>     the bodies
 *                   answers/<sha256>     by what was asked for: header fields, and which body
 * ```
 *
 * Whatever a server says may be kept is kept; it is used while it is fresh, or when the server says that it
 * has not changed. So a guest gets what it would get without this, and a registry that is asked twice for one
 * archive sends it once.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { join } from "node:path";
// @ts-types="@types/http-cache-semantics"
import CachePolicy from "http-cache-semantics";
import { noteUse } from "../../base/cache/kinds.ts";
import { cacheDir } from "../../base/dirs.ts";
import { readTextIfAny, temporaryIn, writeFileAtomic } from "../../base/files.ts";
import { sha256 } from "../../base/store.ts";
import { writeAll } from "../../base/streams.ts";
import type { Answer } from "../interception/upstream.ts";

/** Longest body that is kept, and the header fields that are. */
const MOST_BYTES = 4 * 2 ** 30;
const MOST_FIELDS = 64 * 1024;
const PIECE = 256 * 1024;

/** A page that does not say how long it holds is asked for again, however old it is. */
const OPTIONS = { shared: true, cacheHeuristic: 0 } as const;

/** Whether a server can be asked if it is still the same (RFC 9110 section 8.8). */
function isComparable(headers: IncomingHttpHeaders): boolean {
  return headers["etag"] !== undefined || headers["last-modified"] !== undefined;
}

/** What was asked for: whatever tells one answer from another. */
export interface DownloadRequest {
  /** Scheme, the server as it was checked, and the path. */
  readonly url: string;
  readonly headers: Record<string, string | string[]>;
}

/** What is kept of an answer. */
interface Kept {
  readonly policy: CachePolicy.CachePolicyObject;
  readonly content: string;
  readonly size: number;
}

/** A request without the fields of which it has several. */
function asRequest({ url, headers }: DownloadRequest): CachePolicy.Request {
  const single = Object.entries(headers).map(([name, value]) => [name, String(value)] as const);
  return { url, method: "GET", headers: Object.fromEntries(single) };
}

function asResponse({ status, headers }: Pick<Answer, "status" | "headers">): CachePolicy.Response {
  return { status, headers: headers as CachePolicy.Headers };
}

/** Whether the body came as a whole; one that has an encoding of its own tells no length. */
function isWhole(headers: IncomingHttpHeaders, length: number): boolean {
  const told = headers["content-length"];
  return told === undefined || Number(told) === length;
}

/** See the module. */
export class Downloads {
  readonly #root: string;
  /** Answers that came from here, and those that came from servers. */
  readonly counts = { kept: 0, fetched: 0 };

  /** @param root directory; the cache's when absent */
  constructor(root: string = join(cacheDir(), "downloads")) {
    this.#root = root;
  }

  /**
   * The answer to a request of a guest.
   *
   * @param fetch asks the server, with these header fields
   * @throws what `fetch` throws
   */
  async get(
    request: DownloadRequest,
    fetch: (headers: DownloadRequest["headers"]) => Promise<Answer>,
  ): Promise<Answer> {
    const asked = asRequest(request);
    const kept = await this.#find(request.url);
    if (kept === undefined) return await this.#store(request, await fetch(request.headers));
    const policy = CachePolicy.fromObject(kept.policy);
    if (policy.satisfiesWithoutRevalidation(asked)) {
      const answer = await this.#answer(kept, policy);
      if (answer !== undefined) return answer;
      return await this.#store(request, await fetch(request.headers));
    }
    const headers = { ...policy.revalidationHeaders(asked) } as Record<string, string>;
    const got = await fetch(headers);
    const { policy: now, modified, matches } = policy.revalidatedPolicy(asked, asResponse(got));
    if (modified || !matches || got.status !== 304) return await this.#store(request, got);
    for await (const _ of got.body) { /* it has none */ }
    const answer = await this.#answer(kept, now);
    // It was damaged, and the server was asked for no more than whether it has changed.
    if (answer === undefined) return await this.#store(request, await fetch(request.headers));
    await this.#keep(request.url, { ...kept, policy: now.toObject() });
    return answer;
  }

  #answerPath(url: string): string {
    return join(this.#root, "answers", sha256(url));
  }

  #contentPath(content: string): string {
    return join(this.#root, "content", content);
  }

  async #find(url: string): Promise<Kept | undefined> {
    const path = this.#answerPath(url);
    try {
      const text = await readTextIfAny(path);
      if (text === undefined) return undefined;
      const kept = JSON.parse(text) as Kept;
      CachePolicy.fromObject(kept.policy); // it throws at another version's
      if (!/^[0-9a-f]{64}$/.test(kept.content)) return undefined;
      void noteUse(path);
      return kept;
    } catch {
      return undefined; // it is damaged, or of another version: it is fetched anew
    }
  }

  /** What is kept, when it is what it was. */
  async #answer({ content, size }: Kept, policy: CachePolicy): Promise<Answer | undefined> {
    const path = this.#contentPath(content);
    let file: Deno.FsFile;
    try {
      file = await Deno.open(path);
    } catch {
      return undefined; // it was removed
    }
    let good = false;
    try {
      const hash = createHash("sha256");
      let length = 0;
      for await (const piece of piecesOf(file)) {
        hash.update(piece);
        length += piece.length;
      }
      good = length === size && hash.digest("hex") === content;
    } finally {
      if (!good) file.close();
    }
    if (!good) return undefined;
    void noteUse(path);
    this.counts.kept++;
    await file.seek(0, Deno.SeekMode.Start);
    const headers = { ...policy.responseHeaders() } as IncomingHttpHeaders;
    return { status: 200, headers, body: closing(file), trailers: () => ({}) };
  }

  async #keep(url: string, kept: Kept): Promise<void> {
    const text = JSON.stringify(kept);
    if (text.length > MOST_FIELDS) return;
    await Deno.mkdir(join(this.#root, "answers"), { recursive: true });
    await writeFileAtomic(this.#answerPath(url), text);
  }

  /** The answer of a server, which is kept on its way to the guest if it may be. */
  #store(request: DownloadRequest, answer: Answer): Answer {
    this.counts.fetched++;
    const policy = new CachePolicy(asRequest(request), asResponse(answer), OPTIONS);
    // What a server says to one client only is not for others, whatever else it says.
    const isPersonal = answer.headers["set-cookie"] !== undefined;
    if (answer.status !== 200 || isPersonal || !policy.storable()) return answer;
    if (policy.timeToLive() <= 0 && !isComparable(answer.headers)) return answer;
    const { url } = request;
    return { ...answer, body: this.#copied(answer, url, policy) };
  }

  /** Passes the pieces on; a disk that is full keeps nothing, and holds nothing up. */
  async *#copied(answer: Answer, url: string, policy: CachePolicy): AsyncGenerator<Uint8Array> {
    using stack = new DisposableStack();
    let file = await this.#newFile(stack).catch(() => undefined);
    const hash = createHash("sha256");
    let size = 0;
    for await (const piece of answer.body) {
      size += piece.length;
      if (file !== undefined && (size > MOST_BYTES || !await written(file.file, piece))) {
        file = undefined;
      }
      hash.update(piece);
      yield piece;
    }
    if (file === undefined || !isWhole(answer.headers, size)) return;
    const content = hash.digest("hex");
    await file.file.sync();
    await Deno.rename(file.path, this.#contentPath(content));
    await this.#keep(url, { policy: policy.toObject(), content, size });
  }

  async #newFile(stack: DisposableStack): Promise<{ file: Deno.FsFile; path: string }> {
    const directory = join(this.#root, "content");
    await Deno.mkdir(directory, { recursive: true, mode: 0o700 });
    const { path } = stack.use(temporaryIn(directory));
    return { file: stack.use(await Deno.open(path, { createNew: true, write: true })), path };
  }
}

async function written(file: Deno.FsFile, piece: Uint8Array): Promise<boolean> {
  try {
    await writeAll(file, piece);
    return true;
  } catch {
    return false;
  }
}

async function* piecesOf(file: Deno.FsFile): AsyncGenerator<Uint8Array> {
  for (;;) {
    const piece = new Uint8Array(PIECE);
    const length = await file.read(piece);
    if (length === null) return;
    yield piece.subarray(0, length);
  }
}

async function* closing(file: Deno.FsFile): AsyncGenerator<Uint8Array> {
  try {
    yield* piecesOf(file);
  } finally {
    file.close();
  }
}
