/**
 * A guest whose only program is fixtures/device_guest.c: real drivers for the devices, driven over
 * vsock. For tests and benches.
 *
 * @module
 */
import { join } from "node:path";
import { cpioArchive } from "../../builder/initramfs/mod.ts";
import type { DevicesConfig } from "../../vmm/devices/registry.ts";
import { Vm } from "../../vmm/vm.ts";
import type { VmConfig } from "../../vmm/vm_config.ts";
import type { VmOutcome } from "../../vmm/vm_outcome.ts";
import { compile } from "./fixtures.ts";

/** Port that the guest's program listens on. */
const PORT = 1024;

/** Compiles the program and packs it as an initramfs. */
export async function deviceInitramfs(): Promise<Uint8Array> {
  return await cpioArchive([
    { path: "dev", mode: 0o755, type: "directory" },
    { path: "dev/console", mode: 0o600, type: "character", major: 5, minor: 1 },
    { path: "init", mode: 0o755, type: "file", content: await compile("device_guest.c") },
  ]);
}

/** The byte that the guest's program sends at a place: pattern() of the C program. */
export function patternByte(at: number): number {
  return (Math.imul(at, 2654435761) >>> 13) & 0xff;
}

/** Fletcher's sums over bytes: add() of the C program. */
export class Sum {
  #a = 0;
  #b = 0;

  add(bytes: Uint8Array): this {
    let a = this.#a;
    let b = this.#b;
    for (let i = 0; i < bytes.length; i++) {
      a = (a + bytes[i]!) | 0;
      b = (b + a) | 0;
    }
    this.#a = a;
    this.#b = b;
    return this;
  }

  /** As the C program prints it. */
  toString(): string {
    const hex = (value: number) => (value >>> 0).toString(16).padStart(8, "0");
    return hex(this.#b) + hex(this.#a);
  }
}

/** What a guest is started with. */
export interface DeviceGuestOptions {
  /** Path of the kernel. */
  readonly kernel: string;
  /** Devices besides vsock. */
  readonly devices?: Omit<DevicesConfig, "vsock">;
  /** The rest of the VM. */
  readonly vm?: Partial<VmConfig>;
}

/** The guest at work. */
export class DeviceGuest implements AsyncDisposable {
  readonly #stack: AsyncDisposableStack;

  private constructor(
    readonly vm: Vm,
    /** Path of the vsock device's socket. */
    readonly socket: string,
    readonly warnings: readonly string[],
    stack: AsyncDisposableStack,
  ) {
    this.#stack = stack;
  }

  /** Boots it and waits until it serves commands. */
  static async start(options: DeviceGuestOptions): Promise<DeviceGuest> {
    await using stack = new AsyncDisposableStack();
    const directory = await Deno.makeTempDir();
    stack.defer(() => Deno.remove(directory, { recursive: true }));
    const socket = join(directory, "vsock");
    // The guest connects to port 1 of the host when it is ready.
    using listener = Deno.listen({ transport: "unix", path: `${socket}_1` });
    const warnings: string[] = [];
    const vm = stack.use(
      await Vm.create({
        kernel: options.kernel,
        initramfs: await deviceInitramfs(),
        warning: (message) => warnings.push(message),
        ...options.vm,
        devices: { ...options.devices, vsock: { path: socket, cid: 3 } },
      }),
    );
    vm.resume();
    const ready = listener.accept();
    const first = await Promise.race([ready, vm.outcome]);
    if ("kind" in first) {
      ready.then((connection) => connection.close(), () => {});
      throw new Error(`The guest ended: ${JSON.stringify(first as VmOutcome)}\n${vm.consoleText}`);
    }
    first.close();
    return new DeviceGuest(vm, socket, warnings, stack.move());
  }

  /**
   * Connects to a port of the guest.
   *
   * @throws {Error} when nobody in the guest accepts
   */
  async connect(port = PORT): Promise<Deno.UnixConn> {
    const connection = await Deno.connect({ transport: "unix", path: this.socket });
    try {
      await writeAll(connection, new TextEncoder().encode(`CONNECT ${port}\n`));
      const answer = new Uint8Array(1);
      let line = "";
      while (!line.endsWith("\n")) { // byte by byte: what follows is not ours
        if ((await connection.read(answer)) === null) throw new Error("nobody accepted");
        line += String.fromCharCode(answer[0]!);
      }
      if (!/^OK \d+\n$/.test(line)) throw new Error(`the device said ${JSON.stringify(line)}`);
      return connection;
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  /** Connects and says what for. */
  async open(command: string): Promise<Deno.UnixConn> {
    const connection = await this.connect();
    await writeAll(connection, new TextEncoder().encode(`${command}\n`));
    return connection;
  }

  /** Has the guest do something and takes its whole answer. */
  async command(command: string): Promise<string> {
    using connection = await this.open(command);
    const chunks: Uint8Array[] = [];
    for await (const chunk of chunksOf(connection)) chunks.push(chunk);
    return new TextDecoder().decode(await new Blob(chunks as BlobPart[]).bytes());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** Writes all of it. */
export async function writeAll(connection: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) done += await connection.write(bytes.subarray(done));
}

/** Everything up to the end; each chunk is its own. */
export async function* chunksOf(connection: Deno.Conn): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(65536);
  for (;;) {
    const count = await connection.read(buffer);
    if (count === null) return;
    yield buffer.slice(0, count);
  }
}
