/**
 * What the agent writes to the standard input of an idle interpreter, and its hook reads: what the
 * program is to see. Eight hexadecimal digits, the length of what follows in bytes; then strings that
 * each end in NUL: working directory, main file, number of arguments, arguments, variables
 * (`NAME=value`), and an empty one.
 *
 * @module
 */

/** What a program sees that an idle interpreter could not know. */
export interface ProgramStart {
  /** Absolute working directory. */
  readonly directory: string;
  /** Absolute path of the main file. */
  readonly file: string;
  /** Arguments after the program's name. */
  readonly args: readonly string[];
  /** Variables on top of the language's own. */
  readonly environment: Readonly<Record<string, string>>;
}

/** The message; no string may hold a NUL. */
export function encodeProgramStart(start: ProgramStart): Uint8Array<ArrayBuffer> {
  const variables = Object.entries(start.environment).map(([name, value]) => `${name}=${value}`);
  const { directory, file, args } = start;
  const fields = [directory, file, String(args.length), ...args, ...variables, ""];
  const body = new TextEncoder().encode(fields.map((field) => `${field}\0`).join(""));
  const head = new TextEncoder().encode(body.length.toString(16).padStart(8, "0"));
  const message = new Uint8Array(new ArrayBuffer(head.length + body.length));
  message.set(head);
  message.set(body, head.length);
  return message;
}
