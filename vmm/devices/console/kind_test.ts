import assert from "node:assert/strict";
import { type ConsoleConfig, consoleKind } from "./kind.ts";
import type { ConsoleRequest } from "./device.ts";

const size = { columns: 80, rows: 24 };

/** What the main thread answers when the console of such a configuration posts `length` bytes. */
function hear(config: ConsoleConfig, length: number): ConsoleRequest[] {
  const answers: ConsoleRequest[] = [];
  consoleKind.heard!(new Uint8Array(length), config, (request) => answers.push(request));
  return answers;
}

Deno.test("console output is given to the caller and then acknowledged, whatever he does", () => {
  const taken = [{ kind: "taken", length: 5 }];
  const lengths: number[] = [];
  assert.deepEqual(hear({ ...size, output: ({ length }) => lengths.push(length) }, 5), taken);
  assert.deepEqual(lengths, [5]);
  assert.deepEqual(hear(size, 5), taken);
  assert.deepEqual(hear({ ...size, output: (bytes) => void bytes.buffer.transfer() }, 5), taken);
  const reported: unknown[] = [];
  const listen = (event: ErrorEvent) => {
    event.preventDefault();
    reported.push(event.error);
  };
  addEventListener("error", listen);
  const defect = new Error("a defect of the caller");
  const output = () => {
    throw defect;
  };
  assert.deepEqual(hear({ ...size, output }, 5), taken);
  removeEventListener("error", listen);
  assert.deepEqual(reported, [defect]);
});
