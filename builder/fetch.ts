/**
 * Fetching from a mirror or a registry: bounded in size and time, repeated after what may pass.
 *
 * @module
 */
import { concatBytes } from "../base/bytes.ts";
import { setTimeout as delay } from "node:timers/promises";
import { CloudletError, messageOf } from "../base/errors.ts";

/** How persistent fetching is. */
export interface FetchOptions {
  /** Ends the work early; what has arrived stays for the next time. */
  readonly signal?: AbortSignal | undefined;
  /** Tries without any progress before giving up; 4 when absent. */
  readonly attempts?: number;
  /** Wait before the second try in milliseconds, doubled each time; 300 when absent. */
  readonly backoff?: number;
  /** Longest silence of the server in milliseconds; 30,000 when absent. */
  readonly timeout?: number;
  /** URL of the proxy for a URL; without one, those of the environment (http_proxy) are used. */
  readonly proxy?: ((url: string) => string | undefined) | undefined;
  /** What can be done when the server does not answer; words about mirrors when absent. */
  readonly remedy?: string | undefined;
  /** Makes the request in place of `fetch`, such as with credentials. */
  readonly send?: ((url: string, init: RequestInit) => Promise<Response>) | undefined;
  /** Explains a refusal in place of the words about mirrors; consumes no body. */
  readonly explain?: ((status: number, url: string) => CloudletError | undefined) | undefined;
}

/** A small thing that was fetched. */
export interface Document {
  /** All bytes. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Header fields of the answer. */
  readonly headers: Headers;
}

/** The server said no, and would say so again. */
class Refused extends CloudletError {}

/** The server said when to ask again. */
class AskLater extends CloudletError {
  constructor(error: CloudletError, readonly milliseconds: number) {
    super(error.message, {
      code: error.code,
      ...(error.remedy === undefined ? {} : { remedy: error.remedy }),
    });
  }
}

/** Longest wait that a server may ask for, in milliseconds; one that asks for more is not obeyed. */
const MAX_RETRY_AFTER = 60_000;

/** RFC 9110 10.2.3: seconds, or a date; undefined for anything else. */
function retryAfter(headers: Headers): number | undefined {
  const value = headers.get("retry-after");
  if (value === null) return undefined;
  const wait = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isNaN(wait) ? undefined : Math.max(0, wait);
}

const RETRIED_STATUS = new Set([408, 425, 429, 500, 502, 503, 504]);

export function unavailable(
  url: string,
  why: string,
  options: FetchOptions,
  cause?: unknown,
): CloudletError {
  return new CloudletError(`Cannot fetch ${url}: ${why}`, {
    code: "unavailable",
    remedy: options.remedy ??
      "check the network and the mirror, or set another mirror in the settings",
    cause,
  });
}

export function cancelled(url: string, cause: unknown): CloudletError {
  return new CloudletError(`Cannot fetch ${url}: it was cancelled`, { code: "cancelled", cause });
}

/** Why a `fetch` failed: its own error says no more than that it did. */
export function networkReason(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  return messageOf(cause ?? error);
}

interface Body {
  /** 404: there is no such thing. */
  readonly missing: boolean;
  readonly headers: Headers;
  /** Offset of the first byte. */
  readonly start: number;
  readonly chunks: AsyncIterable<Uint8Array>;
}

/**
 * One request. `use` gets the body; the connection is closed and timers are cleared after it.
 *
 * @param from offset to start at, if the server can
 */
export async function request<T>(
  url: string,
  from: number,
  options: FetchOptions,
  use: (body: Body) => Promise<T>,
): Promise<T> {
  const { signal, timeout = 30_000 } = options;
  const controller = new AbortController();
  const stop = () => controller.abort(signal?.reason);
  if (signal?.aborted) throw cancelled(url, signal.reason);
  signal?.addEventListener("abort", stop, { once: true });
  let silent = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      silent = true;
      controller.abort();
    }, timeout);
  };
  try {
    alive();
    if (url.startsWith("file:")) return await use(await openFile(url, from));
    const proxy = options.proxy?.(url);
    using client = proxy === undefined
      ? undefined
      : Deno.createHttpClient({ proxy: { url: proxy } });
    const response = await (options.send ?? fetch)(url, {
      ...client === undefined ? {} : { client },
      signal: controller.signal,
      headers: from > 0 ? { range: `bytes=${from}-` } : {},
    });
    const start = contentStart(response, from);
    if (start === undefined) {
      await response.body?.cancel();
      if (response.status === 404) {
        return await use({ missing: true, headers: response.headers, start: 0, chunks: empty() });
      }
      throw refusal(url, response, options);
    }
    const { headers } = response;
    return await use({ missing: false, headers, start, chunks: watched(response.body, alive) });
  } catch (cause) {
    if (signal?.aborted) throw cancelled(url, cause);
    if (silent) {
      throw unavailable(url, `the server was silent for ${timeout / 1000} s`, options, cause);
    }
    if (cause instanceof TypeError) throw unavailable(url, networkReason(cause), options, cause);
    throw cause;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
    controller.abort();
  }
}

/** What is thrown for an answer without the content. */
function refusal(url: string, response: Response, options: FetchOptions): CloudletError {
  const { status, statusText, headers } = response;
  const explained = options.explain?.(status, url);
  const why = `the server answers ${status} ${statusText}`.trim();
  const error = explained ?? unavailable(url, why, options);
  if (RETRIED_STATUS.has(status)) {
    const wait = retryAfter(headers);
    if (wait === undefined) return error;
    if (wait <= MAX_RETRY_AFTER) return new AskLater(error, wait);
    const seconds = Math.ceil(wait / 1000);
    return new Refused(`${error.message}; it asks to come back in ${seconds} s`, {
      code: "unavailable",
      remedy: "try again then",
    });
  }
  const remedy = explained === undefined
    ? "check the mirror's URL in the settings or the host's apt sources"
    : explained.remedy;
  return new Refused(error.message, {
    code: error.code,
    ...(remedy === undefined ? {} : { remedy }),
  });
}

async function* empty(): AsyncGenerator<Uint8Array> {}

async function* watched(
  body: ReadableStream<Uint8Array> | null,
  alive: () => void,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of body ?? []) {
    alive();
    yield chunk;
  }
}

/** Offset of the first byte of a good answer: RFC 9110 15.3.7 for 206. */
function contentStart(response: Response, from: number): number | undefined {
  if (response.status === 200) return 0;
  if (response.status !== 206) return undefined;
  const range = /^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "");
  return Number(range?.[1] ?? NaN) === from ? from : undefined;
}

async function openFile(url: string, from: number): Promise<Body> {
  let file: Deno.FsFile;
  try {
    file = await Deno.open(new URL(url));
  } catch (cause) {
    const headers = new Headers();
    if (cause instanceof Deno.errors.NotFound) {
      return { missing: true, headers, start: 0, chunks: empty() };
    }
    throw new Refused(`Cannot fetch ${url}: ${messageOf(cause)}`, { code: "unavailable", cause });
  }
  await file.seek(from, Deno.SeekMode.Start);
  return { missing: false, headers: new Headers(), start: from, chunks: file.readable };
}

/**
 * Repeats `attempt` while it fails for reasons that may pass.
 *
 * @param progress tells how much has arrived so far; an attempt that adds to it costs nothing
 */
export async function persistently<T>(
  url: string,
  options: FetchOptions,
  attempt: () => Promise<T>,
  progress: () => number = () => 0,
): Promise<T> {
  const { attempts = 4, backoff = 300, signal } = options;
  let arrived = progress();
  for (let tried = 1;; tried++) {
    let wait = 0;
    try {
      return await attempt();
    } catch (error) {
      if (error instanceof AskLater) wait = error.milliseconds;
      const mayPass = error instanceof CloudletError && error.code === "unavailable" &&
        !(error instanceof Refused);
      if (progress() > arrived) {
        arrived = progress();
        tried = 0;
      }
      if (!mayPass || tried >= attempts) throw error;
    }
    const milliseconds = Math.max(wait, backoff * 2 ** tried * (0.5 + Math.random() / 2));
    await delay(milliseconds, undefined, signal && { signal })
      .catch(() => Promise.reject(cancelled(url, signal?.reason)));
  }
}

/**
 * Fetches something small into memory.
 *
 * @param limit most bytes that are accepted
 * @returns undefined when the server has no such thing
 * @throws {CloudletError} `unavailable`, `untrusted` when it is larger than the limit, `cancelled`
 */
export async function fetchBytes(
  url: string,
  limit: number,
  options: FetchOptions = {},
): Promise<Uint8Array<ArrayBuffer> | undefined> {
  return (await fetchDocument(url, limit, options))?.bytes;
}

/** The same with the header fields of the answer. */
export function fetchDocument(
  url: string,
  limit: number,
  options: FetchOptions = {},
): Promise<Document | undefined> {
  return persistently(
    url,
    options,
    () =>
      request(url, 0, options, async ({ missing, headers, chunks }) => {
        if (missing) return undefined;
        const parts: Uint8Array[] = [];
        let size = 0;
        for await (const chunk of chunks) {
          size += chunk.length;
          if (size > limit) throw tooLarge(url, limit);
          parts.push(chunk);
        }
        return { bytes: concatBytes(parts), headers };
      }),
  );
}

export function tooLarge(url: string, limit: number): CloudletError {
  return new CloudletError(`Cannot fetch ${url}: it has more than the expected ${limit} bytes`, {
    code: "untrusted",
    remedy: "try again later, or use another server",
  });
}
