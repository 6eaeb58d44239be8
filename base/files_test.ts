import assert from "node:assert/strict";
import { join } from "node:path";
import { CloudletError } from "./errors.ts";
import {
  diskError,
  makePrivateDirectory,
  processLives,
  sweepTemporary,
  temporaryIn,
  withLock,
  writeFileAtomic,
} from "./files.ts";
import { acrossPowerLoss } from "./power_loss_test.ts";

const MODULE = new URL("./files.ts", import.meta.url).href;
const SIGNALS = new URL("./signals.ts", import.meta.url).href;

async function withDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    await work(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

function names(directory: string): string[] {
  return [...Deno.readDirSync(directory)].map(({ name }) => name).sort();
}

/** Starts a process that runs `code` and waits until it has printed something. */
async function started(code: string): Promise<Deno.ChildProcess> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["eval", "--quiet", code],
    stdin: "null",
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  assert.equal((await reader.read()).done, false, "the process ended early");
  reader.releaseLock();
  return child;
}

async function ended(child: Deno.ChildProcess, signal: Deno.Signal): Promise<Deno.CommandStatus> {
  child.kill(signal);
  const status = await child.status;
  await child.stdout.cancel();
  return status;
}

/** Makes a temporary directory with something in it, then waits. */
function holdTemporary(directory: string): string {
  return `import { temporaryIn } from ${JSON.stringify(MODULE)};
    import { exitOnSignals } from ${JSON.stringify(SIGNALS)};
    exitOnSignals();
    const temporary = temporaryIn(${JSON.stringify(directory)});
    Deno.mkdirSync(temporary.path);
    Deno.writeTextFileSync(temporary.path + "/half", "written");
    console.log("ready");
    setInterval(() => {}, 1000);`;
}

Deno.test("a temporary is removed when it is disposed, whatever it became", async () => {
  await withDirectory((directory) => {
    const below = join(directory, "made", "on", "the", "way");
    {
      using nothing = temporaryIn(below);
      using file = temporaryIn(below);
      using full = temporaryIn(below);
      Deno.writeTextFileSync(file.path, "x");
      Deno.mkdirSync(join(full.path, "a"), { recursive: true });
      Deno.writeTextFileSync(join(full.path, "a", "x"), "x");
      Deno.chmodSync(join(full.path, "a"), 0o555); // only root could empty it as it is
      assert.equal(new Set([nothing.path, file.path, full.path]).size, 3);
      assert.equal(names(below).length, 2);
    }
    assert.deepEqual(names(below), []);
    return Promise.resolve();
  });
});

Deno.test("a temporary that was moved away stays where it is", async () => {
  await withDirectory(async (directory) => {
    {
      using temporary = temporaryIn(directory);
      await Deno.writeTextFile(temporary.path, "done");
      await Deno.rename(temporary.path, join(directory, "goal"));
    }
    assert.deepEqual(names(directory), ["goal"]);
  });
});

for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]] as const) {
  Deno.test(`${signal} removes what is unfinished and ends the process with ${code}`, async () => {
    await withDirectory(async (directory) => {
      const child = await started(holdTemporary(directory));
      assert.equal(names(directory).length, 1);
      assert.equal((await ended(child, signal)).code, code);
      assert.deepEqual(names(directory), []);
    });
  });
}

Deno.test("a program that uses the library keeps its signals to itself", async () => {
  await withDirectory(async (directory) => {
    const child = await started(`import { temporaryIn } from ${JSON.stringify(MODULE)};
      const { path } = temporaryIn(${JSON.stringify(directory)});
      Deno.writeTextFileSync(path, "half");
      Deno.addSignalListener("SIGTERM", () => Deno.exit(7));
      console.log("ready");
      setInterval(() => {}, 1000);`);
    assert.equal((await ended(child, "SIGTERM")).code, 7);
    assert.deepEqual(names(directory), []);
  });
});

Deno.test("whoever takes the signals ends the process, and what is unfinished goes with it", async () => {
  await withDirectory(async (directory) => {
    const child = await started(`import { temporaryIn } from ${JSON.stringify(MODULE)};
      import { exitOnSignals, takeSignals } from ${JSON.stringify(SIGNALS)};
      exitOnSignals();
      using _ = takeSignals((signal, code) => setTimeout(() => {
        using file = Deno.openSync(${JSON.stringify(join(directory, "seen"))}, {
          create: true,
          write: true,
        });
        file.writeSync(new TextEncoder().encode([signal, code, Deno.statSync(path).size].join()));
        Deno.exit(7);
      }, 50));
      const { path } = temporaryIn(${JSON.stringify(directory)});
      Deno.writeTextFileSync(path, "half");
      console.log("ready");
      await new Promise((resolve) => setTimeout(resolve, 1e6));`);
    assert.equal((await ended(child, "SIGTERM")).code, 7);
    assert.equal(await Deno.readTextFile(join(directory, "seen")), "SIGTERM,143,4");
    assert.deepEqual(names(directory), ["seen"]);
  });
});

Deno.test("a private directory is this user's alone, or refused", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "parent", "private");
    makePrivateDirectory(path);
    assert.equal(Deno.statSync(path).mode! & 0o7777, 0o700);
    await Deno.writeTextFile(join(path, "file"), "stays");
    makePrivateDirectory(path);
    assert.deepEqual(names(path), ["file"]);

    const refused = (what: string, message: RegExp) =>
      assert.throws(() => makePrivateDirectory(what), { code: "host", message });
    await Deno.chmod(path, 0o750);
    refused(path, /other users can enter it/);
    await Deno.chmod(path, 0o700);
    await Deno.symlink(path, join(directory, "link"));
    refused(join(directory, "link"), /it is no directory/);
    refused(join(path, "file"), /it is no directory/);
    if (Deno.uid() === 0) {
      await Deno.chown(path, 65534, 65534);
      refused(path, /it belongs to another user \(65534\)/);
    }
  });
});

Deno.test("what a killed process left is swept, what a living one makes is not", async () => {
  await withDirectory(async (directory) => {
    const [dead, living] = await Promise.all([
      started(holdTemporary(directory)),
      started(holdTemporary(directory)),
    ]);
    await ended(dead, "SIGKILL");
    await Deno.writeTextFile(join(directory, "entry"), "x");
    await Deno.writeTextFile(join(directory, ".tmp-notes"), "no process made this");
    assert.equal(names(directory).length, 4);
    sweepTemporary(directory);
    const left = names(directory);
    assert.equal(left.length, 3);
    assert.ok(left.some((name) => name.startsWith(`.tmp-${living.pid}-`)));
    await ended(living, "SIGINT");
    assert.deepEqual(names(directory), [".tmp-notes", "entry"]);
  });
  sweepTemporary("/nonexistent"); // nothing to do, nothing to say
});

Deno.test("a process lives until it ends, whether or not it was reaped", async () => {
  assert.equal(processLives(Deno.pid), true);
  assert.equal(processLives(1), true);
  assert.equal(processLives(999_999_999), false);
  // The shell's child ends, and the program that takes the shell's place never reaps it.
  const parent = new Deno.Command("sh", {
    args: ["-c", "sleep 0.1 & echo $!; exec sleep 1000"],
    stdout: "piped",
  }).spawn();
  const reader = parent.stdout.getReader();
  const pid = Number(new TextDecoder().decode((await reader.read()).value));
  while (!Deno.readTextFileSync(`/proc/${pid}/stat`).includes(") Z ")) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.equal(processLives(pid), false);
  parent.kill("SIGKILL");
  await parent.status;
  await reader.cancel();
});

Deno.test("an atomic write replaces a file whole, from text, bytes or a stream", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "new", "file");
    for (const content of ["text", new TextEncoder().encode("text"), new Blob(["text"]).stream()]) {
      await writeFileAtomic(path, "before");
      await writeFileAtomic(path, content);
      assert.equal(await Deno.readTextFile(path), "text");
    }
    assert.deepEqual(names(join(directory, "new")), ["file"]);
  });
});

Deno.test("an atomic write that fails leaves the old content and nothing else", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "file");
    await writeFileAtomic(path, "before");
    const broken = new ReadableStream<Uint8Array>({
      start(controller) {
        controller.enqueue(new Uint8Array(10));
      },
      pull(controller) {
        controller.error(new Error("the source broke"));
      },
    });
    await assert.rejects(writeFileAtomic(path, broken), /the source broke/);
    assert.equal(await Deno.readTextFile(path), "before");
    assert.deepEqual(names(directory), ["file"]);
  });
});

Deno.test("a full disk is an error of the host that says what to do", async () => {
  using full = await Deno.open("/dev/full", { write: true });
  await assert.rejects(async () => {
    try {
      await full.write(new Uint8Array(1));
    } catch (cause) {
      throw diskError("Cannot write the image", cause);
    }
  }, (error) => {
    assert.ok(error instanceof CloudletError);
    assert.equal(error.code, "host");
    assert.match(error.message, /^Cannot write the image: No space left/);
    assert.match(error.remedy!, /free some disk space/);
    return true;
  });
});

Deno.test("errors that no disk causes pass unchanged", () => {
  for (const error of [new Error("other"), "text", new CloudletError("x", { code: "guest" })]) {
    assert.equal(diskError("Cannot write", error), error);
  }
});

Deno.test("of two holders of a lock one waits, and is told so once", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "sub", "lock");
    const order: string[] = [];
    const gate = Promise.withResolvers<void>();
    const first = withLock(path, async () => {
      order.push("first in");
      await gate.promise;
      order.push("first out");
    });
    const waits = Promise.withResolvers<void>();
    while (order.length === 0) await new Promise((resolve) => setTimeout(resolve));
    const second = withLock(path, () => {
      order.push("second in");
      return Promise.resolve("result");
    }, waits.resolve);
    await waits.promise;
    gate.resolve();
    await first;
    assert.equal(await second, "result");
    assert.deepEqual(order, ["first in", "first out", "second in"]);
  });
});

Deno.test("a lock ends with the work's error, and with its process", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "lock");
    await assert.rejects(withLock(path, () => Promise.reject(new Error("failed"))), /failed/);
    const holder = await started(`import { withLock } from ${JSON.stringify(MODULE)};
      await withLock(${JSON.stringify(path)}, () => {
        console.log("held");
        return new Promise((resolve) => setTimeout(resolve, 1e6));
      });`);
    const waits = Promise.withResolvers<void>();
    const next = withLock(path, () => Promise.resolve("mine"), waits.resolve);
    await waits.promise;
    await ended(holder, "SIGKILL");
    assert.equal(await next, "mine");
  });
});

Deno.test({
  name: "a file that a power cut leaves is whole",
  ignore: Deno.uid() !== 0, // a file system has to be mounted
  fn: () =>
    acrossPowerLoss(
      (disk) => writeFileAtomic(join(disk, "file"), "all of it"),
      async (disk) => assert.equal(await Deno.readTextFile(join(disk, "file")), "all of it"),
    ),
});
