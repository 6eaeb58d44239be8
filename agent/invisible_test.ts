/** A program sees nothing of the agent: neither in its environment nor in its process. */
import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { isHere, run, startAgent } from "./harness_test.ts";
import {
  ExecuteRequest_Action as Action,
  ExecuteRequestSchema,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { interpreterNeeds } from "../workload/interpreter_needs.ts";
import { checkRequest } from "../workload/request.ts";

/** What a process inherits, as lines; a shell script, since each language can start one. */
const REPORT = String.raw`
grep -E '^(Umask|SigBlk|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status
# but for 32 and 33, which the C library's posix_spawn() leaves ignored
printf 'ignored %x\n' $(( 0x$(sed -n 's/^SigIgn:.//p' /proc/self/status) & ~0x180000000 ))
grep -v '^Max \(processes\|pending\)' /proc/self/limits
echo oom $(cat /proc/self/oom_score_adj)
set -- $(sed 's/.*) //' /proc/$$/stat)
echo tty $5 nice $(echo $* | cut -d" " -f17)
pid=$$; while :; do set -- $(sed 's/.*) //' /proc/$pid/stat); [ $4 != $pid ] || break; pid=$2; done
echo leader of its group: $([ $3 = $pid ] && echo yes)
ls /proc/$$/fd
env | cut -d= -f1 | grep -Ev '^(_|PWD|OLDPWD|SHLVL)$' | sort
echo path $PATH
`;
const QUOTED = JSON.stringify(REPORT);

/** How each language's program prints the report of a child, and what its runtime makes of signals. */
const PROGRAMS: Readonly<Record<string, { program: string; file: string; code: string }>> = {
  bash: { program: "bash", file: "main.sh", code: REPORT },
  python: {
    program: "python3",
    file: "main.py",
    code: `import subprocess\nsubprocess.run(["sh", "-c", ${QUOTED}], check=True)\n`,
  },
  node: {
    program: "node",
    file: "main.js",
    code: `require("child_process").spawnSync("sh", ["-c", ${QUOTED}], { stdio: "inherit" });`,
  },
  deno: {
    program: "deno",
    file: "main.ts",
    code: `await new Deno.Command("sh", { args: ["-c", ${QUOTED}] }).spawn().status;`,
  },
};

/** What an agent may have inherited from whatever started it, and Deno's from V8's flags on. */
const DIRTY =
  `trap '' INT QUIT HUP TERM USR1; umask 077; ulimit -Sn $(ulimit -Hn); exec 9</dev/null`;

/** The same by hand: in a session of its own, with the environment of a fresh login. */
async function byHand(program: string, directory: string, file: string): Promise<string> {
  const env = [`PATH=${Deno.env.get("PATH")}`, `HOME=${Deno.env.get("HOME")}`, "LANG=C.UTF-8"];
  const command = program === "deno" ? [program, "run", "-A", "--quiet"] : [program];
  const { stdout, stderr } = await new Deno.Command("setsid", {
    args: [
      "bash", // the test's own process may have more files open
      "-c",
      "umask 022; ulimit -Sn 1024; for fd in /proc/$$/fd/*; do fd=${fd##*/}; " +
      '[ $fd -le 2 ] || eval "exec $fd>&-"; done; exec "$@"',
      "bash",
      ...["env", "-i", ...env, ...command, `${directory}/${file}`],
    ],
    cwd: directory,
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  assert.equal(text.decode(stderr), "");
  return text.decode(stdout);
}

for (const [language, { program, file, code }] of Object.entries(PROGRAMS)) {
  Deno.test(`a ${language} program inherits nothing from the agent`, async () => {
    if (!await isHere(program)) return;
    const directory = await Deno.makeTempDir({ prefix: "agent-test-" });
    try {
      await Deno.writeTextFile(`${directory}/${file}`, code);
      const expected = await byHand(program, directory, file);
      assert.match(expected, /^path /m);
      await using agent = await startAgent({}, DIRTY);
      const options = { files: [{ path: file, content: new TextEncoder().encode(code) }] };
      const cold = await run(agent, language, "", { ...options, cold: true });
      assert.equal(cold.err, "");
      assert.equal(cold.out, expected, "a new interpreter");
      const request = { language, options, action: Action.PREPARE_AND_RUN };
      const needs = interpreterNeeds(checkRequest(create(ExecuteRequestSchema, request)))!;
      const { entryPoint, files } = needs;
      assert((await agent.client.warm({ language, entryPoint, files: [...files] })).warm);
      const warm = await run(agent, language, "", options);
      assert.deepEqual(agent.children(), [], "the idle interpreter ran it");
      assert.equal(warm.out, expected, "an idle interpreter");
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  });
}
