/** The tree as a whole: what no rule that sees one file at a time can hold. */
import assert from "node:assert/strict";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Our own modules, with what each imports: values and types alike. */
async function imports(): Promise<Map<string, string[]>> {
  const { stdout } = await new Deno.Command("git", {
    args: ["ls-files", "--cached", "--others", "--exclude-standard", "*.ts"],
    cwd: ROOT,
  }).output();
  const graph = new Map<string, string[]>();
  for (const path of new TextDecoder().decode(stdout).trim().split("\n")) {
    if (/^(examples|proto\/gen)\//.test(path)) continue;
    const source = await Deno.readTextFile(join(ROOT, path)).catch(() => undefined);
    if (source === undefined) continue; // removed, not committed yet
    const specifiers = [
      ...source.matchAll(/^(?:import|export)\b[^;"'`]*?(?:from\s*)?"(\.{1,2}\/[^"]+\.ts)"/gms),
      ...source.matchAll(/\bimport\(\s*"(\.{1,2}\/[^"]+\.ts)"/g),
    ];
    const targets = specifiers.map(([, to]) => relative(ROOT, join(ROOT, dirname(path), to!)));
    graph.set(path, targets);
  }
  return graph;
}

/** A cycle of a graph, its first file at both ends; undefined where there is none. */
function findCycle(graph: ReadonlyMap<string, readonly string[]>): string[] | undefined {
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (file: string): string[] | undefined => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return undefined;
    path.push(file);
    for (const to of graph.get(file) ?? []) {
      const cycle = visit(to);
      if (cycle !== undefined) return cycle;
    }
    path.pop();
    done.add(file);
    return undefined;
  };
  for (const file of graph.keys()) {
    const cycle = visit(file);
    if (cycle !== undefined) return cycle;
  }
  return undefined;
}

Deno.test("the search for cycles finds one", () => {
  const graph = new Map([["a", ["b"]], ["b", ["c", "d"]], ["c", []], ["d", ["b"]]]);
  assert.deepEqual(findCycle(graph), ["b", "d", "b"]);
  graph.set("d", ["c"]);
  assert.equal(findCycle(graph), undefined);
});

Deno.test("no files import each other in a circle", async () => {
  const graph = await imports();
  assert.ok(graph.size > 200, `only ${graph.size} files were found`);
  assert.ok([...graph.values()].flat().length > graph.size);
  assert.equal(findCycle(graph)?.join(" -> "), undefined);
});
