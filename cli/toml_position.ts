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

function* located(node: AST.TOMLNode, path: Path): Generator<Located> {
  const at = (n: AST.TOMLNode): Position => ({
    line: n.loc.start.line,
    column: n.loc.start.column + 1, // the parser counts columns from 0
  });
  switch (node.type) {
    case "TOMLTable":
      yield { path: node.resolvedKey, position: at(node.key) };
      for (const child of node.body) yield* located(child, node.resolvedKey);
      break;
    case "TOMLKeyValue": {
      let here = path;
      for (const key of node.key.keys) {
        here = [...here, key.type === "TOMLBare" ? key.name : key.value];
        yield { path: here, position: at(key) };
      }
      yield* located(node.value, here);
      break;
    }
    case "TOMLInlineTable":
      for (const child of node.body) yield* located(child, path);
      break;
    case "TOMLArray":
      for (const [i, element] of node.elements.entries()) {
        yield { path: [...path, i], position: at(element) };
        yield* located(element, [...path, i]);
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
  for (const node of parseTOML(text).body[0].body) all.push(...located(node, []));
  for (let length = path.length; length > 0; length--) {
    const found = all.find((entry) =>
      entry.path.length === length && entry.path.every((part, i) => part === path[i])
    );
    if (found !== undefined) return found.position;
  }
  return undefined;
}
