/**
 * The report of world.sh: what a fresh Debian system says, and what may differ in a guest.
 *
 * @module
 */
import { checkoutPath } from "../paths.ts";

/** Path of the program that makes the report; it needs bash. */
export const WORLD: string = checkoutPath("probe/world.sh");

/** What packages of our images say besides those of a fresh system; docs/languages.md has the list. */
const OF_PACKAGES: Readonly<Record<string, string>> = {
  // tzdata-legacy is there: programs name such zones, and without it would silently get UTC
  "zone US/Eastern": "2024-07-03 05:46 -0400 EDT",
  "zone Asia/Calcutta": "2024-07-03 15:16 +0530 IST",
  "python zones": "True Europe/Paris",
};

/** What an image of ours says in place of a system that mmdebstrap made of the same packages. */
const OF_IMAGES: Readonly<Record<string, string>> = {
  // the name that a guest has resolves
  "own name": "127.0.1.1",
  "python own name": "127.0.1.1",
};

/** The lines of a report by what they are about; those about one thing are joined. */
export function parseWorld(text: string): Map<string, string> {
  const findings = new Map<string, string>();
  for (const line of text.trimEnd().split("\n")) {
    const [, key, value] = /^(.+?): ?(.*)$/.exec(line) ?? [];
    if (key === undefined) continue;
    const before = findings.get(key);
    findings.set(key, before === undefined ? value! : `${before}\n${value}`);
  }
  return findings;
}

/** What a fresh Debian system with Python says. */
async function debianWorld(): Promise<Map<string, string>> {
  return parseWorld(await Deno.readTextFile(checkoutPath("probe/world.txt")));
}

/** What a system says that mmdebstrap made of the Python image's packages. */
export async function systemWorld(): Promise<Map<string, string>> {
  return new Map([...await debianWorld(), ...Object.entries(OF_PACKAGES)]);
}

/** What the Python image says. */
export async function expectedWorld(): Promise<Map<string, string>> {
  return new Map([...await systemWorld(), ...Object.entries(OF_IMAGES)]);
}
