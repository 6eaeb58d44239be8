/** A program's exit code is the command's, and what cloudlet itself fails with is another. */
import { equal, match } from "node:assert/strict";
import { join } from "node:path";
import { Cloudlet, withServer } from "../test/cli_process.ts";
import { checkoutPath } from "../test/paths.ts";

const FILES = {
  "one.sh": "exit 1",
  "two.sh": "exit 2",
  "wrong.rs": "fn main() { nothing(); }",
  "odd.txt": "x",
  "bad.toml": "nope = 1\n",
  "closed.py": "",
};

/** Ends with this code, and says why. */
async function ends(command: Cloudlet, code: number, why: RegExp): Promise<void> {
  const ended = await command.ended();
  match(ended.stderr, why);
  equal(ended.code, code, ended.stderr);
}

Deno.test("what cloudlet fails with in a run is 125, and no program's code is changed", () =>
  withServer(FILES, async (cloudlet, path) => {
    await ends(cloudlet(["run", path("one.sh")]), 1, /^$/);
    await ends(cloudlet(["run", path("two.sh")]), 2, /^$/);
    await ends(cloudlet(["run", "--nope", path("one.sh")]), 125, /No flag registered/);
    await ends(cloudlet(["run", "--timeout", "x", path("one.sh")]), 125, /Cannot use timeout/);
    await ends(cloudlet(["run"]), 125, /neither a program nor an image/);
    await ends(cloudlet(["run", path("bad.toml")]), 125, /Cannot use the config file/);
    await ends(cloudlet(["run", "--vcpus", "99", path("one.sh")]), 125, /99 virtual CPUs/);
    await ends(cloudlet(["fork", "nothing"]), 125, /Cannot reach the run/);
    await ends(cloudlet(["fork"]), 125, /Expected argument for id/);
  }));

Deno.test("what cannot be run is 126, and what is not there 127", () =>
  withServer(FILES, async (cloudlet, path) => {
    await ends(cloudlet(["run", path("none.py")]), 127, /none\.py: there is no such file/);
    await ends(cloudlet(["run", path("none.toml")]), 127, /none\.toml: there is no such file/);
    await ends(cloudlet(["run", path("one.sh/x.py")]), 127, /there is no such file/);
    await ends(cloudlet(["run", path("odd.txt")]), 126, /does not tell its language/);
    await ends(cloudlet(["run", "/dev/null"]), 126, /no file and no directory/);
    const image = ["run", "-q", "--image", "x:1"];
    await ends(cloudlet([...image, "no-such-command"]), 127, /Cannot start "no-such-command"/);
    await ends(cloudlet([...image, "/etc/passwd"]), 126, /Cannot start "\/etc\/passwd"/);
  }));

Deno.test({
  name: "a program that does not compile cannot be run",
  ignore: !await hasRustc(),
  fn: () =>
    withServer(FILES, async (cloudlet, path) => {
      await ends(cloudlet(["run", path("wrong.rs")]), 126, /rustc ended with exit code 1/);
    }),
});

Deno.test("other commands keep 1 for a failure and 2 for a wrong line", async () => {
  const nowhere = ["--server", "http://localhost:1"];
  await ends(new Cloudlet(["run", ...nowhere, join(ROOT, "a.sh")]), 127, /no such file/);
  await ends(new Cloudlet(["fork", ...nowhere, "x"]), 125, /Cannot reach the server/);
  await ends(new Cloudlet(["boot", "--nope"]), 125, /No flag registered/);
  await ends(new Cloudlet(["ps", ...nowhere]), 1, /Cannot reach the server/);
  await ends(new Cloudlet(["ps", "--nope"]), 2, /No flag registered/);
  await ends(new Cloudlet(["nope"]), 2, /No command registered/);
});

Deno.test("a defect of cloudlet, wherever it shows, is no program's end", async () => {
  const flag = await Deno.makeTempFile();
  const program = await Deno.makeTempFile({ suffix: ".sh" });
  // The defect shows when the command is on its way.
  await using silent = Deno.serve({ port: 0, hostname: "localhost", onListen() {} }, async () => {
    await Deno.writeTextFile(flag, "now");
    await over.promise;
    return new Response();
  });
  const over = Promise.withResolvers<void>();
  const server = `http://localhost:${silent.addr.port}`;
  try {
    for (
      const [defect, command, code] of [
        [
          "Promise.reject(new Error('odd'))",
          ["run", "--server", server, program],
          125,
        ],
        ["(() => { throw new TypeError('odd') })()", ["fork", "--server", server, "x"], 125],
        ["Promise.reject(new Error('odd'))", ["ps", "--server", server], 1],
      ] as const
    ) {
      await Deno.writeTextFile(flag, "");
      const wait =
        `Deno.readTextFileSync('${flag}') === 'now' && (clearInterval(timer), ${defect})`;
      const preload =
        `data:text/javascript,const timer = setInterval(() => ${wait}, 20);Deno.unrefTimer(timer)`;
      const { code: ended, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", "--quiet", "--preload", preload, checkoutPath("../mod.ts"), ...command],
        stdin: "null",
      }).output();
      equal(new TextDecoder().decode(stdout), "");
      match(new TextDecoder().decode(stderr), /^cloudlet: unexpected error: \w*Error: odd/);
      equal(ended, code, command[0]);
    }
  } finally {
    over.resolve();
    await Deno.remove(flag);
    await Deno.remove(program);
  }
});

const ROOT = "/nowhere";

async function hasRustc(): Promise<boolean> {
  return await new Deno.Command("rustc", { args: ["-V"] }).output().then(({ success }) => success)
    .catch(() => false);
}
