/**
 * Snapshots: a whole VM in a directory of two files, and back.
 *
 * @module
 */
import { writeAll } from "../../base/streams.ts";
import { join } from "node:path";
import type { KeyPart } from "../../base/store.ts";
import type { SlotSnapshot } from "../virtio/slot.ts";
import type { GuestMemory } from "../memory/guest_memory.ts";
import { devicesOf } from "./device_pieces.ts";
import {
  decodeState,
  encodeState,
  jsonPiece,
  MAX_STATE_BYTES,
  piece,
  type Pieces,
  refuse,
  unreadable,
} from "./format.ts";
import { type FileIdentity, type MemoryFile, openMemory } from "./memory_file.ts";
import { type ClockPair, clockPair } from "./machine_state.ts";
import { writeMemory } from "./write_memory.ts";

/** What a snapshot says of itself: the piece `facts`. */
export interface SnapshotFacts {
  /** Everything that has to be the same for it to be used; only its maker knows what it means. */
  readonly requires: KeyPart;
  /** The memory file as it was left. */
  readonly memory: FileIdentity;
  /** Bytes of the memory file that are not holes. */
  readonly data: number;
  /** Milliseconds since 1970. */
  readonly made: number;
}

const STATE = "state";
const MEMORY = "memory";

/** A VM that can be saved. */
export interface SavableVm {
  /** Its RAM. */
  readonly memory: GuestMemory;
  /** Gives the state of the paused VM, without its RAM. */
  save(): Promise<Map<string, Uint8Array<ArrayBuffer>>>;
}

/** A VM without a guest. */
export interface RestorableVm {
  /** Its RAM. */
  readonly memory: GuestMemory;
  /** Puts a guest into it; gives kvm-clock as it was set, and when. */
  restore(pieces: Pieces, devices: readonly SlotSnapshot[], memory: MemoryFile): ClockPair;
}

/** How a VM is saved. */
export interface SaveOptions {
  /** The memory file that the VM was restored from, if it was. */
  readonly base?: MemoryFile | undefined;
  /**
   * Whether anybody will need it later, so that it has to outlive a crash of the host and to be
   * recognised in a file that was copied; true when absent.
   */
  readonly durable?: boolean;
  /** Called when all of the VM was read, so that it may go on before the rest is done. */
  readonly copied?: () => void;
}

/**
 * Saves a paused VM into an empty directory.
 *
 * @param vm paused
 * @param directory exists and is empty; whoever made it makes it appear at once, or removes it
 * @param requires what a host and a caller must have to use it
 * @param options how
 * @throws {CloudletError} `host` when the disk is full
 */
export async function saveSnapshot(
  vm: SavableVm,
  directory: string,
  requires: KeyPart,
  options: SaveOptions = {},
): Promise<void> {
  const { base, durable = true, copied = () => {} } = options;
  const pieces = await vm.save();
  const written = await writeMemory(vm.memory, join(directory, MEMORY), {
    base: base?.fd,
    durable,
    copied,
  });
  const facts: SnapshotFacts = {
    requires,
    memory: written.identity,
    data: written.data,
    made: Date.now(),
  };
  pieces.set("facts", new TextEncoder().encode(JSON.stringify(facts)));
  pieces.set("memory.digests", written.digests);
  using file = await Deno.open(join(directory, STATE), { createNew: true, write: true });
  await writeAll(file, encodeState(pieces));
  if (durable) await file.sync();
}

/** A snapshot that is good, with its memory file open. */
export class Snapshot implements Disposable {
  /** What it says of itself. */
  readonly facts: SnapshotFacts;
  readonly #pieces: Pieces;
  readonly #devices: readonly SlotSnapshot[];
  readonly #memory: MemoryFile;
  readonly #lease: Disposable | undefined;

  private constructor(
    facts: SnapshotFacts,
    pieces: Pieces,
    memory: MemoryFile,
    lease: Disposable | undefined,
  ) {
    this.#lease = lease;
    this.facts = facts;
    this.#pieces = pieces;
    this.#devices = devicesOf(pieces);
    this.#memory = memory;
  }

  /**
   * Opens a snapshot and checks it.
   *
   * @param directory of it
   * @param requires what it must say that it requires
   * @param whole read every byte of its memory, which otherwise is done only when its file was changed
   * @param lease keeps the directory there; the snapshot's own from now on, unless this throws
   * @throws {CloudletError} `untrusted` with the reason when it cannot be used; `host` when it cannot be
   *   read now, and may be good
   */
  static async open(
    directory: string,
    requires?: KeyPart,
    whole = false,
    lease?: Disposable,
  ): Promise<Snapshot> {
    const pieces = readPieces(directory);
    const facts = factsOf(pieces);
    if (requires !== undefined) checkRequirements(facts.requires, requires);
    const digests = piece(pieces, "memory.digests");
    const memory = await openMemory(join(directory, MEMORY), facts.memory, digests, whole);
    return new Snapshot(facts, pieces, memory, lease);
  }

  /** The memory file, for {@linkcode saveSnapshot} of what this was restored to. */
  get memory(): MemoryFile {
    return this.#memory;
  }

  /**
   * Puts the guest into a VM of `Vm.shell`, which then goes on with `resume()`.
   *
   * @returns by how many nanoseconds the guest's wall clock has to be put forward, whenever it is
   *   told
   */
  restore(vm: RestorableVm): bigint {
    if (vm.memory.ram.length !== this.facts.memory.size) {
      throw refuse(
        `it has ${this.facts.memory.size} bytes of memory, the VM ${vm.memory.ram.length}`,
      );
    }
    const now = vm.restore(this.#pieces, this.#devices, this.#memory);
    const saved = clockPair(this.#pieces);
    return now.wall - saved.wall - (now.clock - saved.clock);
  }

  /** Closes the memory file; a VM that was restored from it keeps it mapped. */
  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
    this.#lease?.[Symbol.dispose]();
  }
}

function readPieces(directory: string): Pieces {
  const path = join(directory, STATE);
  let file: Uint8Array<ArrayBuffer>;
  try {
    if (Deno.statSync(path).size > MAX_STATE_BYTES) throw refuse("its state file is too large");
    file = Deno.readFileSync(path);
  } catch (cause) {
    throw unreadable("its state file", cause);
  }
  return decodeState(file);
}

/**
 * What the snapshot in a directory says of itself.
 *
 * @throws {CloudletError} as {@linkcode Snapshot.open}
 */
export function readFacts(directory: string): SnapshotFacts {
  return factsOf(readPieces(directory));
}

function factsOf(pieces: Pieces): SnapshotFacts {
  const facts = jsonPiece(pieces, "facts") as Partial<SnapshotFacts> | null;
  const isTable = (value: unknown) => typeof value === "object" && value !== null;
  // The rest is compared with what is there, so that anything else is refused by that.
  if (isTable(facts?.requires) && isTable(facts?.memory)) return facts as SnapshotFacts;
  throw refuse("its facts are malformed");
}

function checkRequirements(has: KeyPart, wanted: KeyPart): void {
  const a = has as Readonly<Record<string, KeyPart>>;
  const b = wanted as Readonly<Record<string, KeyPart>>;
  for (const name of new Set([...Object.keys(a), ...Object.keys(b)])) {
    if (JSON.stringify(a[name]) !== JSON.stringify(b[name])) {
      throw refuse(`it is for another ${name}`);
    }
  }
}
