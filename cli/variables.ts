/**
 * Variables of a program as the command line gives them: `--env`, and files as docker has them.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import { reasonOfFile } from "../base/files.ts";

/**
 * Reads `NAME=VALUE`, or `NAME` for the caller's value.
 *
 * @throws {CloudletError} `invalid-input` for one without a name, or that the caller does not have
 */
export function readVariables(texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(texts.map((text) => {
    const { name, value = Deno.env.get(name) } = split(text);
    if (name === "" || value === undefined) {
      throw new CloudletError(
        `Cannot pass the variable ${JSON.stringify(text)}: ` +
          (name === "" ? "it has no name" : "it is not set here"),
        { code: "invalid-input", remedy: "write --env NAME=VALUE" },
      );
    }
    return [name, value];
  }));
}

/**
 * Reads a file of variables as `docker run --env-file` does: `NAME=VALUE` on each line, the value as
 * it is, without quotes or escapes; `NAME` alone is the caller's, and left out where the caller has
 * none; empty lines and those that begin with `#` say nothing. The last of a name counts.
 *
 * @throws {CloudletError} `not-found` for a file that cannot be read, `invalid-input` with the number
 *   of the first line that is wrong
 */
export async function readVariableFile(path: string): Promise<Record<string, string>> {
  let bytes: Uint8Array;
  try {
    bytes = await Deno.readFile(path);
  } catch (cause) {
    throw new CloudletError(`Cannot read the variables of ${path}: ${reasonOfFile(cause)}`, {
      code: "not-found",
      remedy: "give the path of a file with NAME=VALUE on each line",
      cause,
    });
  }
  return Object.fromEntries(parseVariableFile(bytes, path));
}

const utf8 = new TextDecoder("utf-8", { fatal: true }); // without a byte order mark
const LINE_FEED = 0x0a;

function* parseVariableFile(bytes: Uint8Array, path: string): Generator<[string, string]> {
  let number = 0;
  for (let at = 0; at < bytes.length;) {
    const end = bytes.indexOf(LINE_FEED, at);
    const line = bytes.subarray(at, end < 0 ? bytes.length : end);
    at += line.length + 1;
    const refuse = (why: string) =>
      new CloudletError(`Cannot use the variables of ${path}: line ${number}: ${why}`, {
        code: "invalid-input",
        remedy: "write NAME=VALUE, NAME, or # and a comment",
      });
    number++;
    let text: string;
    try {
      text = utf8.decode(line).replace(/\r$/, "").trimStart();
    } catch {
      throw refuse("it is not UTF-8");
    }
    if (text === "" || text.startsWith("#")) continue;
    const { name, value } = split(text);
    if (name === "") throw refuse("it has no name");
    if (/\s/.test(name)) throw refuse(`the name ${JSON.stringify(name)} has a blank in it`);
    if (text.includes("\0")) throw refuse("it has a NUL character");
    const known = value ?? Deno.env.get(name);
    if (known !== undefined) yield [name, known];
  }
}

function split(text: string): { readonly name: string; readonly value?: string } {
  const equals = text.indexOf("=");
  return equals < 0
    ? { name: text }
    : { name: text.slice(0, equals), value: text.slice(equals + 1) };
}
