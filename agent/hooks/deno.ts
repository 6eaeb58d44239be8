// Idle Deno: a module of --preload, which runs before the program is looked for. TypeScript, so that
// its compiler is ready by then.

/** What the hook uses of the `process` that Deno gives to programs without a type. */
interface Process {
  emit: unknown;
  on(event: "exit", listener: () => void): void;
}

if (!("WorkerGlobalScope" in globalThis)) {
  // V8 asks the kernel for memory in pieces, each of whose pages costs a fault when it is first
  // touched. After a round through that of its young objects, all of it is free for the program.
  for (let i = 0; i < 512; i++) new Array(1024).fill(i); // 4 MiB

  // As in hooks/node.cjs: Deno.exit() behind the last listener, since it ends without giving V8's
  // memory back piece by piece.
  let unloaded = false;
  addEventListener("unload", () => unloaded = true);
  const { process } = globalThis as unknown as { process: Process };
  const { exit } = Deno;
  const { emit } = process;
  let last = false;
  Object.defineProperty(Object.getPrototypeOf(process), "emit", {
    configurable: true,
    get() {
      if (!last && this === process && unloaded) {
        last = true;
        process.on("exit", () => exit());
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

  Deno.stdout.writeSync(new TextEncoder().encode("."));
  const take = (length: number): string => {
    const taken = new Uint8Array(length);
    for (let have = 0; have < length;) {
      const count = Deno.stdin.readSync(taken.subarray(have));
      if (count === null) Deno.exit(0);
      have += count;
    }
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(taken);
  };
  const fields = take(Number.parseInt(take(8), 16)).split("\0");
  const end = 3 + Number(fields[2]);
  // As in hooks/node.cjs; a worker's own is right.
  const origin = Date.now() - performance.now();
  const { get, ...shape } = Object.getOwnPropertyDescriptor(Performance.prototype, "timeOrigin")!;
  const corrected = {
    get timeOrigin() {
      get!.call(this);
      return origin;
    },
  };
  Object.defineProperty(Performance.prototype, "timeOrigin", {
    ...shape,
    get: Object.getOwnPropertyDescriptor(corrected, "timeOrigin")!.get!,
  });
  Deno.chdir(fields[0]!);
  const value = Object.freeze(fields.slice(3, end));
  Object.defineProperty(Deno, "args", { value, configurable: true, enumerable: true });
  for (const field of fields.slice(end, -2)) {
    const equals = field.indexOf("=");
    Deno.env.set(field.slice(0, equals), field.slice(equals + 1));
  }
  // Deno's generator behind crypto takes a new seed after 64 KiB (rand::rngs::ThreadRng). That of
  // Math.random never does, so that another one takes its place: xoshiro128** of Blackman and Vigna.
  crypto.getRandomValues(new Uint8Array(65536));
  crypto.getRandomValues(new Uint8Array(65536));
  const s = crypto.getRandomValues(new Uint32Array(4));
  const turn = (x: number, by: number) => (x << by) | (x >>> (32 - by));
  const next = (): number => {
    const result = Math.imul(turn(Math.imul(s[1]!, 5), 7), 9) >>> 0;
    const t = s[1]! << 9;
    s[2]! ^= s[0]!;
    s[3]! ^= s[1]!;
    s[1]! ^= s[2]!;
    s[0]! ^= s[3]!;
    s[2]! ^= t;
    s[3] = turn(s[3]!, 11);
    return result;
  };
  const { random } = { random: () => ((next() >>> 5) * 67108864 + (next() >>> 6)) / 2 ** 53 };
  Object.defineProperty(Math, "random", { value: random, writable: true, configurable: true });
}
