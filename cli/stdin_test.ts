/** Standard input in shell loops: what a program does not read is left to the loop. */
import { deepEqual, equal, match } from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { testService } from "../test/service.ts";

const MOD = fileURLToPath(new URL("../mod.ts", import.meta.url));

/**
 * Runs a shell script in which `cloudlet` is `cloudlet run` on a server of processes.
 *
 * @param files in its directory
 */
async function shell(script: string, files: Readonly<Record<string, string>>): Promise<string> {
  await using server = await testService();
  const directory = await Deno.makeTempDir();
  try {
    for (const [name, content] of Object.entries(files)) {
      await Deno.writeTextFile(join(directory, name), content);
    }
    const command = `'${Deno.execPath()}' run -A --quiet --no-check '${MOD}' run -q --server ` +
      server.url;
    const { stdout, stderr } = await new Deno.Command("bash", {
      args: ["-c", `cloudlet() { ${command} "$@"; }\n${script}`],
      cwd: directory,
      stdin: "null",
    }).output();
    const text = new TextDecoder();
    return text.decode(stdout) + text.decode(stderr);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

const LIST = "one\ntwo\nthree\n";
const JOB = 'echo "job $1"';

Deno.test("in a loop over a file, a program that does not read leaves the list alone", async () => {
  const loop = 'while read -r x; do cloudlet job.sh -- "$x"; done < list';
  equal(await shell(loop, { list: LIST, "job.sh": JOB }), "job one\njob two\njob three\n");
});

Deno.test("in a loop over a pipe, a program that does not read leaves the list alone", async () => {
  const loop = 'cat list | while read -r x; do cloudlet job.sh -- "$x"; done';
  equal(await shell(loop, { list: LIST, "job.sh": JOB }), "job one\njob two\njob three\n");
});

Deno.test("in a loop over a file, a program takes the lines that it reads, and no more", async () => {
  const loop = 'while read -r x; do cloudlet job.sh -- "$x"; done < list';
  const reads = 'read -r y; echo "job $1 $y"';
  const list = LIST + "four\nfive\n";
  equal(await shell(loop, { list, "job.sh": reads }), "job one two\njob three four\njob five \n");
  // One that is too large to go with the request comes piece by piece.
  const many = Array.from({ length: 300_000 }, (_, i) => `line ${i}\n`).join("");
  const script = "{ read -r x; echo $x; cloudlet job.sh -- x; read -r x; echo $x; } < list";
  equal(await shell(script, { list: many, "job.sh": reads }), "line 0\njob x line 1\nline 2\n");
});

Deno.test("in a loop over a pipe, a program that reads gets the rest", async () => {
  const loop = 'cat list | while read -r x; do cloudlet job.sh -- "$x"; done';
  equal(await shell(loop, { list: LIST, "job.sh": "echo $1; cat" }), LIST);
});

Deno.test("with --no-stdin, or stdin = false, a program that reads finds nothing", async () => {
  const files = {
    list: LIST,
    "job.sh": 'echo "job $1"; cat',
    "job.toml":
      'workload-name = "job"\n[build]\nsource-code-path = "job.sh"\n[run]\nstdin = false\n',
  };
  const script = 'cat list | while read -r x; do cloudlet --no-stdin job.sh -- "$x"; done\n' +
    "cat list | { cloudlet job.toml -- file; cat; }\n";
  equal(await shell(script, files), `job one\njob two\njob three\njob file\n${LIST}`);
  match(
    await shell("cloudlet --no-stdin --stdin list job.sh", files),
    /--stdin and --no-stdin are given/,
  );
});

Deno.test("of a run that comes to nothing, the list is left whole", async () => {
  const script = "{ cloudlet none.sh; cloudlet job.sh; } < list";
  const lines = (await shell(script, { list: LIST, "job.sh": "cat" })).split("\n");
  deepEqual(lines.slice(0, 3), ["one", "two", "three"]);
});
