/**
 * Where a key stands in a TOML text, for error messages. Loaded only when there is an error.
 *
 * @module
 */
import { type AST, parseTOML } from "toml-eslint-parser";

/** A place in a text; both count from 1. */
export interface Position {
  /** Line. */
  readonly line: number;
  /** Column. */
  readonly column: number;
}

type Path = readonly (string | number)[];

interface Located {
  readonly path: Path;
  readonly position: Position;
}

/** Keys and elements with paths of at most `depth` parts; each longer one would be as long again. */
function* located(node: AST.TOMLNode, path: Path, depth: number): Generator<Located> {
  const at = (n: AST.TOMLNode): Position => ({
    line: n.loc.start.line,
    column: n.loc.start.column + 1, // the parser counts columns from 0
  });
  switch (node.type) {
    case "TOMLTable":
      if (node.resolvedKey.length > depth) return;
      yield { path: node.resolvedKey, position: at(node.key) };
      for (const child of node.body) yield* located(child, node.resolvedKey, depth);
      break;
    case "TOMLKeyValue": {
      let here = path;
      for (const key of node.key.keys) {
        if (here.length === depth) return;
        here = [...here, key.type === "TOMLBare" ? key.name : key.value];
        yield { path: here, position: at(key) };
      }
      yield* located(node.value, here, depth);
      break;
    }
    case "TOMLInlineTable":
      for (const child of node.body) yield* located(child, path, depth);
      break;
    case "TOMLArray":
      if (path.length === depth) return;
      for (const [i, element] of node.elements.entries()) {
        yield { path: [...path, i], position: at(element) };
        yield* located(element, [...path, i], depth);
      }
      break;
  }
}

/**
 * The place of the value at `path`, or of its nearest parent that is written down; undefined for
 * the root.
 *
 * @param text a valid TOML document
 * @param path keys and array indices from the root
 */
export function positionOf(text: string, path: Path): Position | undefined {
  const all: Located[] = [];
  for (const node of parseTOML(text).body[0].body) all.push(...located(node, [], path.length));
  for (let length = path.length; length > 0; length--) {
    const found = all.find((entry) =>
      entry.path.length === length && entry.path.every((part, i) => part === path[i])
    );
    if (found !== undefined) return found.position;
  }
  return undefined;
}
