/** The hooks of interpreters are files, which the tools of their languages check. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { oracle } from "../test/oracle.ts";
import { hookOf } from "./interpreter_hooks.ts";
import { languages } from "../workload/languages.ts";

const HOOKS = fileURLToPath(new URL("./hooks/", import.meta.url));
const CONFIG = fileURLToPath(new URL("../deno.json", import.meta.url));

/** What is wrong with each copy, which a checker has to see. */
const CHECKS: readonly {
  readonly file: string;
  readonly broken: string;
  readonly command: readonly string[];
}[] = [
  {
    file: "python.py",
    broken: "def f(:\n",
    command: ["python3", "-W", "error", "-m", "py_compile"],
  },
  { file: "python.py", broken: "print(undefined_name)\n", command: ["pyflakes3"] },
  { file: "bash.sh", broken: "if true; then\n", command: ["bash", "-n"] },
  { file: "bash.sh", broken: "cd $1\n", command: ["shellcheck"] },
  { file: "node.cjs", broken: "const = 1;\n", command: ["node", "--check"] },
  { file: "node.cjs", broken: "debugger;\n", command: ["deno", "lint", "--config", CONFIG] },
  { file: "node.cjs", broken: "a( 1 )\n", command: ["deno", "fmt", "--check", "--config", CONFIG] },
  { file: "deno.ts", broken: "const a: string = 1;\n", command: ["deno", "check"] },
  { file: "deno.ts", broken: "debugger;\n", command: ["deno", "lint", "--config", CONFIG] },
  { file: "deno.ts", broken: "a( 1 )\n", command: ["deno", "fmt", "--check", "--config", CONFIG] },
];

for (const { file, broken, command: [program, ...args] } of CHECKS) {
  const name = [program, ...args].filter((word) => word !== CONFIG).join(" ");
  Deno.test(`${name} has nothing to say of ${file}, and would say it`, async () => {
    if (!await oracle(program!)) return;
    const directory = await Deno.makeTempDir({ prefix: "hooks-test-" });
    try {
      const copy = join(directory, file);
      await Deno.writeTextFile(copy, await Deno.readTextFile(HOOKS + file) + broken);
      const check = async (path: string) => {
        const { code, stdout, stderr } = await new Deno.Command(program!, {
          args: [...args, path],
          env: { PYTHONPYCACHEPREFIX: directory, NO_COLOR: "1" },
        }).output();
        const text = new TextDecoder();
        return { code, said: text.decode(stdout) + text.decode(stderr) };
      };
      const whole = await check(HOOKS + file);
      assert.equal(whole.code, 0, whole.said);
      assert.notEqual((await check(copy)).code, 0);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  });
}

Deno.test("the interpreters that have a hook are those whose start is declared", () => {
  for (const language of Object.values(languages)) {
    const { name, startup } = language;
    assert.equal(hookOf(language) !== undefined, startup !== undefined, name);
  }
});
