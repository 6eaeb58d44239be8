/** What two clones of one snapshot must not share, and what each must get right. */
import assert from "node:assert/strict";
import { collect } from "../../agent/harness_test.ts";
import { ExecuteRequest_Action as Action } from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import type { HostMachine } from "../../node/host_machine.ts";
import { hasKvm, testMachine } from "./fixtures.ts";

/** CLOUDLET_TEST_CLONES names the languages; a first snapshot of each takes a boot. */
const chosen = (Deno.env.get("CLOUDLET_TEST_CLONES") ?? "python").split(",");
const CLONES = 3;
/** What a clone's clock may differ from the host's by, in milliseconds: it is read in between. */
const CLOCK = 1;

const javascript = (read: string) => `
const { randomUUID, randomBytes, webcrypto } = await import("node:crypto");
const crypto = globalThis.crypto ?? webcrypto; // Debian's Node.js has it there only
console.log("uuid", randomUUID());
console.log("web uuid", crypto.randomUUID());
console.log("bytes", randomBytes(16).toString("hex"));
console.log("web bytes", crypto.getRandomValues(new Uint8Array(16)).join(""));
console.log("math", Math.random());
console.log("kernel", ${read}.trim());
`;

/** Lines of a name and a value that no two clones may share. */
const PROGRAMS: Readonly<Record<string, string>> = {
  python: `
import os, random, secrets, ssl, tempfile, uuid
print("token", secrets.token_hex())
print("uuid4", uuid.uuid4())
print("urandom", os.urandom(16).hex())
print("random", random.random())
print("openssl", ssl.RAND_bytes(16).hex())
print("temporary", tempfile.mktemp())
print("kernel", open("/proc/sys/kernel/random/uuid").read().strip())
`,
  node: javascript(
    '(await import("node:fs")).readFileSync("/proc/sys/kernel/random/uuid", "utf8")',
  ),
  deno: javascript('Deno.readTextFileSync("/proc/sys/kernel/random/uuid")'),
  bash: `
echo random $RANDOM$RANDOM$RANDOM
echo srandom $SRANDOM$SRANDOM
echo kernel "$(cat /proc/sys/kernel/random/uuid)"
echo temporary "$(mktemp -u)"
`,
};
const FILES: Readonly<Record<string, string>> = {
  python: "main.py",
  node: "main.mjs",
  deno: "main.ts",
  bash: "main.sh",
};

async function output({ agent }: HostMachine, language: string, cold: boolean): Promise<string> {
  const content = new TextEncoder().encode(PROGRAMS[language]);
  const { out, err, last } = await collect(agent.execute({
    language,
    action: Action.PREPARE_AND_RUN,
    options: { files: [{ path: FILES[language]!, content }], cold },
  }));
  assert.equal(last.exitCode, 0, err);
  return out;
}

/** By how many milliseconds the guest's clock is off, of some answers the one that tells best. */
async function clockError({ agent }: HostMachine): Promise<number> {
  let best = { took: Infinity, error: Infinity };
  for (let i = 0; i < 20; i++) {
    const asked = performance.timeOrigin + performance.now();
    const { clockNs } = await agent.info({});
    const took = performance.timeOrigin + performance.now() - asked;
    // The answer was given at some time in between.
    const early = asked - Number(clockNs / 1000n) / 1000;
    const error = early > 0 ? early : Math.min(0, early + took);
    if (took < best.took) best = { took, error };
  }
  return best.error;
}

for (const language of chosen) {
  Deno.test({
    name: `clones of a ${language} snapshot draw other numbers, and know who and when they are`,
    ignore: !hasKvm(),
    async fn(t) {
      const drawn = new Map<string, string>();
      for (let i = 0; i < CLONES; i++) {
        await using machine = await testMachine(language, `clone-${i}`);
        await t.step(`clone ${i}`, async () => {
          // The first program of a clone is run by the interpreter that waits, the second by a new one.
          for (const cold of [false, true]) {
            const lines = (await output(machine, language, cold)).trimEnd().split("\n");
            assert(lines.length >= 4, lines.join("|"));
            for (const line of lines) {
              assert.equal(drawn.get(line), undefined, `${line} in clone ${i}`);
              drawn.set(line, `clone ${i}`);
            }
          }
          assert.equal((await machine.agent.info({})).vmId, `clone-${i}`);
          const off = await clockError(machine);
          assert(Math.abs(off) <= CLOCK, `the clock is off by ${off} ms`);
        });
      }
    },
  });
}
