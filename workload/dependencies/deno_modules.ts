/**
 * What a program for Deno imports from elsewhere: `npm:`, `jsr:` and `https:`, in its sources, in the imports
 * of deno.json, and in package.json.
 *
 * @module
 */
import { tableOf } from "../tables.ts";
import { type Dependencies, madeFile, type ManifestSource, MAX_MANIFEST } from "./dependencies.ts";

const CONFIGS: readonly string[] = ["deno.json", "deno.jsonc"];
const DECIDES: ReadonlySet<string> = new Set([...CONFIGS, "deno.lock", "package.json", ".npmrc"]);
/** What Deno is given to install, in the place of the sources. */
const MADE = "dependencies.ts";
const SOURCE = /\.(ts|mts|tsx|js|mjs|jsx)$/;
const IMPORT = /(?:\bfrom|\bimport)\s*\(?\s*["']((?:npm|jsr|https?):[^"'\s]+)["']/g;
/** Imports that are looked at. */
const MOST_IMPORTS = 10_000;

/** An object of JSON with comments (deno.jsonc); an empty one when Deno has to say what is wrong. */
function objectOf(text: string | undefined) {
  try {
    const plain = (text ?? "{}").slice(0, MAX_MANIFEST)
      .replaceAll(/("(?:[^"\\]|\\.)*")|\/\/[^\n]*|\/\*[\s\S]*?\*\//g, "$1")
      .replaceAll(/("(?:[^"\\]|\\.)*")|,(\s*[}\]])/g, "$1$2");
    return tableOf(JSON.parse(plain));
  } catch {
    return {};
  }
}

/**
 * What Deno has to fetch.
 *
 * @returns undefined for nothing
 */
export function denoDependencies(source: ManifestSource): Dependencies | undefined {
  const texts = source.code !== ""
    ? [source.code]
    : source.files.filter((path) => SOURCE.test(path) && !path.includes("node_modules/"))
      .flatMap((path) => source.read(path) ?? []);
  const found = new Set<string>();
  for (const text of texts) {
    for (const [, specifier] of text.slice(0, MAX_MANIFEST).matchAll(IMPORT)) {
      if (found.size < MOST_IMPORTS) found.add(specifier!);
    }
  }
  const config = CONFIGS.map((path) => objectOf(source.read(path)));
  const mapped = config.flatMap(({ imports }) => Object.values(tableOf(imports)))
    .filter((to): to is string => typeof to === "string" && /^(npm|jsr|https?):/.test(to));
  const packages = objectOf(source.read("package.json"));
  const named = ["dependencies", "devDependencies"].flatMap((list) =>
    Object.keys(tableOf(packages[list]))
  );
  const names = [...new Set([...found, ...mapped, ...named])];
  if (names.length === 0 || source.files.some((path) => path.startsWith("node_modules/"))) {
    return undefined;
  }
  const imports = [...found].sort().map((specifier) => `import ${JSON.stringify(specifier)};\n`);
  return {
    installer: "deno",
    manifest: found.size > 0 ? "the source" : CONFIGS.find((path) => source.read(path)) ??
      "package.json",
    names,
    files: [
      ...source.sources.filter(({ path }) => DECIDES.has(path)),
      madeFile(MADE, imports.join("")),
    ],
    args: [MADE],
  };
}
