/**
 * Which files of a project are left out: the rules of a `.cloudletignore`, whose syntax and meaning
 * are those of docker's `.dockerignore`.
 *
 * A rule is a path from the project's top, in which `*` and `?` stand for characters but "/", `[a-z]`
 * for one of a class and `**` for any number of directories; `\` takes the next character as it is.
 * Of the rules that match a file or a directory above it, the last one decides; `!` takes back.
 * An npm package for this (@balena/dockerignore 1.0.2) fails cases of docker's own tests: `(` in a
 * name, and characters beyond U+FFFF.
 *
 * @module
 */
import { normalize } from "node:path";
import { CloudletError } from "../../base/errors.ts";

/** Name of the file with the rules, at the top of a project. */
export const IGNORE_FILE = ".cloudletignore";

/** What is left out unless a rule takes it back: history, and what Python makes again. */
const LEFT_OUT = [".git", ".hg", ".svn", "__pycache__"];

/** One rule. */
interface Rule {
  readonly negated: boolean;
  readonly pattern: string;
  readonly expression: RegExp;
}

/** Which rules matched a directory or one above it. */
export type Matches = readonly boolean[];

/** What the rules say about a file or directory. */
export interface Verdict {
  readonly ignored: boolean;
  /** For what is in it, when it is a directory. */
  readonly matches: Matches;
}

/** The rules of one project. */
export class IgnoreRules {
  readonly #rules: readonly Rule[];

  /**
   * @param text of the file with the rules; empty when there is none
   * @param file its path, for errors
   * @throws {CloudletError} `invalid-input` for a pattern that is none
   */
  constructor(text = "", file: string = IGNORE_FILE) {
    const rules = LEFT_OUT.map((name) => ruleOf(`**/${name}`));
    for (const [index, line] of text.replace(/^\uFEFF/, "").split("\n").entries()) {
      if (line.startsWith("#") || line.trim() === "") continue;
      try {
        rules.push(ruleOf(line));
      } catch (error) {
        if (!(error instanceof BadPattern)) throw error;
        throw new CloudletError(`Cannot use ${file}: line ${index + 1}: ${error.message}`, {
          code: "invalid-input",
          remedy: "write patterns as in a .dockerignore",
        });
      }
    }
    this.#rules = rules;
  }

  /**
   * Says whether something is left out.
   *
   * @param path relative to the project
   * @param above what was said of its directory; undefined at the top
   * @param byDefault left out unless a rule takes it back
   */
  look(path: string, above?: Matches, byDefault = false): Verdict {
    // As docker: a rule that cannot change the verdict is not tried, and counts as not matching for
    // what is below.
    const first = byDefault || above?.[0] === true;
    const matches = [first];
    let ignored = first;
    for (const [index, { negated, expression }] of this.#rules.entries()) {
      const match = above?.[index + 1] === true || negated === ignored && expression.test(path);
      matches.push(match);
      if (match) ignored = !negated;
    }
    return { ignored, matches };
  }

  /** Whether an ignored directory may have something in it that a rule takes back. */
  mayHold(directory: string): boolean {
    return this.#rules.some(({ negated, pattern }) => {
      if (!negated) return false;
      const start = pattern.replace(/(\/\*\*?)+$/, "");
      return /[*?[\]\\]/.test(start) || `${start}/`.startsWith(`${directory}/`);
    });
  }
}

/** Why a pattern is none. */
class BadPattern extends Error {}

function ruleOf(line: string): Rule {
  const text = line.trim();
  const negated = text.startsWith("!");
  const wanted = negated ? text.slice(1).trim() : text;
  if (wanted === "") throw new BadPattern('"!" needs a pattern after it');
  const pattern = normalize(wanted).replace(/(?<=.)\/$/, "").replace(/^\/(?=.)/, "");
  return { negated, pattern, expression: expressionOf(pattern) };
}

/** A pattern as a regular expression over whole paths. */
function expressionOf(pattern: string): RegExp {
  const start = /^\*\*([^/*?[\]\\][^*?[\]\\]*)$/.exec(pattern);
  // Docker takes "**" and a name together for the end of a path, "**/name" for a name.
  if (start !== null) return new RegExp(`${RegExp.escape(start[1]!)}$`, "u");
  let source = "";
  let rest = pattern;
  const take = (expression: RegExp) => {
    const found = expression.exec(rest);
    if (found !== null) rest = rest.slice(found[0].length);
    return found;
  };
  while (rest !== "") {
    if (take(/^\*\*\/?/)) source += rest === "" ? "[^]*" : "(?:[^]*/)?";
    else if (take(/^\*/)) source += "[^/]*";
    else if (take(/^\?/)) source += "[^/]";
    else if (rest.startsWith("[")) {
      const found = take(/^\[(\^?)((?:(?:\\.|[^\\\]-])(?:-(?:\\.|[^\\\]-]))?)+)\]/u);
      if (found === null) throw new BadPattern(`${JSON.stringify(pattern)} has a bad class [...]`);
      source += classOf(pattern, found[1]!, found[2]!);
    } else {
      const found = take(/^\\?([^\\])|^\\\\/u);
      if (found === null) throw new BadPattern(`${JSON.stringify(pattern)} ends with a backslash`);
      source += RegExp.escape(found[1] ?? "\\");
    }
  }
  return new RegExp(`^${source}$`, "u");
}

function classOf(pattern: string, negation: string, ranges: string): string {
  const parts = [...ranges.matchAll(/(\\.|[^\\])(?:-(\\.|[^\\]))?/gu)].map(([, from, to]) => {
    const [first, last] = [from!, to ?? from!].map((text) =>
      text.replace(/^\\/, "").codePointAt(0)!
    );
    if (first! > last!) {
      throw new BadPattern(`${JSON.stringify(pattern)} has a range that ends before it starts`);
    }
    return `\\u{${first!.toString(16)}}-\\u{${last!.toString(16)}}`;
  });
  return `[${negation}${parts.join("")}]`;
}
