/**
 * What an entry of the cache says of itself to those who look after the cache: `<entry>/about.json`.
 * Most entries have none.
 *
 * @module
 */
import { join } from "node:path";

/** See the module. */
export interface About {
  /** Entries, as `<kind>/<key>`, without which it is of no use. */
  readonly needs: readonly string[];
  /** Whether it serves one program only: there are as many of those as clients have names for. */
  readonly ofProgram: boolean;
}

/** Of an entry that says nothing. */
const NOTHING: About = { needs: [], ofProgram: false };

const FILE = "about.json";
const MAX_BYTES = 64 * 1024;
const MAX_NEEDS = 64;

/** Writes it into the directory of an entry that is being made. */
export async function writeAbout(directory: string, about: About): Promise<void> {
  await Deno.writeTextFile(join(directory, FILE), JSON.stringify(about) + "\n");
}

/** Reads it; of what is not as it was written, nothing. */
export function readAbout(directory: string): About {
  const path = join(directory, FILE);
  try {
    const info = Deno.statSync(path);
    if (!info.isFile || info.size > MAX_BYTES) return NOTHING;
    const { needs, ofProgram } = JSON.parse(Deno.readTextFileSync(path)) ?? {};
    return {
      needs: Array.isArray(needs) ? needs.filter(isId).slice(0, MAX_NEEDS) : [],
      ofProgram: ofProgram === true,
    };
  } catch {
    return NOTHING;
  }
}

/** Whether a value is `<kind>/<key>`: it never leads out of the cache. */
export function isId(value: unknown): value is string {
  return typeof value === "string" && /^[a-z]+\/[0-9A-Za-z_][0-9A-Za-z_.+~-]*$/.test(value);
}
