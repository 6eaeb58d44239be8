// Idle Node.js: a module of --require, which runs before the program, in the main thread and in each
// worker.
"use strict";
// The time origin is that of the process, which may have started before a snapshot: it is corrected by
// the clocks' readings of now (High Resolution Time, section 5).
const correctTimeOrigin = () => {
  const { performance } = require("node:perf_hooks");
  const timeOrigin = Date.now() - performance.now();
  const correct = (name, change) => {
    let owner = performance; // whose prototype in Node 18 has another one
    while (owner !== null && !Object.hasOwn(owner, name)) owner = Object.getPrototypeOf(owner);
    if (owner === null) return;
    const old = Object.getOwnPropertyDescriptor(owner, name);
    const { configurable, enumerable } = old;
    if (configurable) Object.defineProperty(owner, name, { enumerable, ...change(old) });
  };
  correct("timeOrigin", ({ get, set }) => {
    // In Node 18 a value, which the first one to read it puts in the place of an accessor.
    if (get === undefined || set !== undefined) return { value: timeOrigin };
    const getter = {
      get timeOrigin() {
        get.call(this); // refuses what is no Performance
        return timeOrigin;
      },
    };
    return { get: Object.getOwnPropertyDescriptor(getter, "timeOrigin").get };
  });
  correct("toJSON", ({ value }) => {
    const { toJSON } = {
      toJSON() {
        return { ...value.call(this), timeOrigin };
      },
    };
    return { value: toJSON };
  });
};
if (!require("node:worker_threads").isMainThread) {
  correctTimeOrigin();
} else {
  const fs = require("node:fs");
  process.execArgv.length = 0;
  // V8 asks the kernel for memory in pieces, each of whose pages costs a fault when it is first
  // touched. After a round through that of its young objects, all of it is free for the program.
  for (let i = 0; i < 512; i++) new Array(1024).fill(i); // 4 MiB
  fs.writeSync(1, ".");
  const take = (length) => {
    const taken = Buffer.alloc(length);
    for (let have = 0; have < length;) {
      const count = fs.readSync(0, taken, have, length - have, null);
      if (count === 0) process.reallyExit(0);
      have += count;
    }
    return taken.toString();
  };
  const fields = take(Number.parseInt(take(8), 16)).split("\0");
  const [directory, file] = fields;
  const end = 3 + Number(fields[2]);
  correctTimeOrigin();
  process.chdir(directory);
  process.argv.splice(1, 1, file, ...fields.slice(3, end));

  // At its end Node gives V8's memory back piece by piece, which takes more than a second where the
  // kernel is emulated; process.exit() does not. So there is one behind the last thing that a program
  // can see of its end, the event "exit" of `process`: when its `emit` is looked up for that, a
  // listener is added behind those that there are by then. hooks/deno.ts has the same.
  const { emit, reallyExit } = process;
  const exit = (code) => { // not for other codes: there may be an error still to be printed
    if (code !== 0 || process.reallyExit !== reallyExit) return;
    reallyExit.call(process, process.exitCode || 0);
  };
  let last = false;
  Object.defineProperty(Object.getPrototypeOf(process), "emit", {
    configurable: true,
    get() {
      if (!last && this === process && process._exiting) {
        last = true;
        process.on("exit", exit);
      }
      return emit;
    },
    set(value) {
      Object.defineProperty(this, "emit", {
        value,
        configurable: true,
        enumerable: true,
        writable: true,
      });
    },
  });

  const Module = require("node:module");
  const { runMain } = Module;
  Object.defineProperty(Module, "runMain", {
    configurable: true,
    get() { // once, by Node itself; bound, so that no frame of this file is in the program's traces
      Object.defineProperty(Module, "runMain", { value: runMain, writable: true });
      return runMain.bind(Module, file);
    },
  });
  for (const field of fields.slice(end, -2)) {
    const equals = field.indexOf("=");
    process.env[field.slice(0, equals)] = field.slice(equals + 1);
  }
  // Math.random takes its seed when it is first called: all that is restored from one snapshot would
  // draw the same numbers. (What has to be unpredictable comes from crypto.)
  const seed = Buffer.alloc(4);
  const source = fs.openSync("/dev/urandom");
  fs.readSync(source, seed, 0, 4, null);
  fs.closeSync(source);
  require("node:v8").setFlagsFromString("--random-seed=" + (seed.readInt32LE() || 1));
}
