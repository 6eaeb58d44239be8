/**
 * Modules that are loaded when they are needed for the first time.
 *
 * A literal `import("./x.ts")` would not do: Deno loads the graph behind each literal before the
 * first line runs, which is the whole tree for `cloudlet --version`.
 *
 * @module
 */

/**
 * Imports a module of this package.
 *
 * @param specifier relative to the importing module; `typeof import("...")` of the same is its type
 * @param from the importing module's `import.meta.url`
 */
export function lazyImport<Module>(specifier: string, from: string): Promise<Module> {
  return import(new URL(specifier, from).href);
}

/**
 * Reads a file of this package as text, which is checked as its modules are.
 *
 * @param specifier relative to the asking module
 * @param from the asking module's `import.meta.url`
 */
export async function lazyText(specifier: string, from: string): Promise<string> {
  const url = new URL(specifier, from).href;
  const { default: text } = await import(url, { with: { type: "text" } });
  return text;
}
