/**
 * What is removed from the cache, in which order: what was used longest ago first, and nothing that is
 * in use.
 *
 * What an entry needs counts as used whenever the entry is, and goes no earlier: without its image,
 * a snapshot would only take room. Where it has to go, those that need it go with it, or it stays.
 *
 * @module
 */
import { isInUse, type Removal, removeEntry, removeLocks } from "./remove.ts";
import type { Contents, Entry } from "./scan.ts";

/** What may stay. */
export interface Limits {
  /** Bytes on the disk that the entries of these kinds may have together; any number when absent. */
  readonly bytes?: number | undefined;
  /** Milliseconds since the last use after which an entry goes; none when absent. */
  readonly age?: number | undefined;
  /** Kinds of which entries are removed, with those that need them; all when absent. */
  readonly kinds?: readonly string[] | undefined;
}

/** How {@linkcode collect} goes about it. */
export interface CollectOptions {
  /** Reads which entries state needs: by id, what needs it. */
  readonly state: () => ReadonlyMap<string, string>;
  /** What was used in so many milliseconds stays: somebody may be about to use it; 0 when absent. */
  readonly grace?: number;
  /** Only say what would be removed. */
  readonly dryRun?: boolean;
  /** Remove all that nobody uses, whatever the limits say. */
  readonly all?: boolean;
  /** In milliseconds since 1970; the system's when absent. */
  readonly now?: number;
  /** Ends the work before the next entry. */
  readonly signal?: AbortSignal;
  /** Removes an entry; {@linkcode removeEntry} when absent. */
  readonly remove?: typeof removeEntry;
}

/** What was done. */
export interface Collected {
  readonly removed: readonly Entry[];
  /** Entries that should have gone, and why they stayed. */
  readonly kept: readonly { readonly entry: Entry; readonly why: string }[];
  /** Bytes of the entries that are left. */
  readonly bytes: number;
}

/**
 * What part of the room those may take that serve one program each: there are as many as a client has
 * names for, and those that serve any program of a language take longest to make.
 */
const ROOM_OF_PROGRAMS = 1 / 2;

/** Removes what is beyond the limits, and the names and locks of what is gone. */
export async function collect(
  contents: Contents,
  limits: Limits,
  options: CollectOptions,
): Promise<Collected> {
  const collection = new Collection(contents, limits, options);
  await collection.run();
  if (options.dryRun !== true) {
    removeNames(contents, collection.ids, options.now ?? Date.now());
    removeLocks(contents.locks);
  }
  return collection;
}

class Collection implements Collected {
  readonly removed: Entry[] = [];
  readonly #kept = new Map<Entry, string>();
  /** Those whose removal was begun. */
  readonly #going = new Set<Entry>();
  bytes: number;
  /** Of what is left. */
  readonly ids: Map<string, Entry>;
  readonly #limits: Limits;
  readonly #options: CollectOptions;
  readonly #now: number;
  /** By id, those that need it. */
  readonly #dependents = new Map<string, Entry[]>();
  #state: ReadonlyMap<string, string>;
  #ofPrograms: number;

  constructor(contents: Contents, limits: Limits, options: CollectOptions) {
    const { entries } = contents;
    this.#limits = limits;
    this.#options = options;
    this.#now = options.now ?? Date.now();
    this.ids = new Map(entries.map((entry) => [entry.id, entry]));
    const counted = entries.filter((entry) => this.#isMeant(entry));
    this.bytes = sumOf(counted);
    this.#ofPrograms = sumOf(counted.filter(({ ofProgram }) => ofProgram));
    for (const entry of entries) {
      for (const id of entry.needs) {
        const list = this.#dependents.get(id);
        if (list === undefined) this.#dependents.set(id, [entry]);
        else list.push(entry);
      }
    }
    this.#state = this.#stateNow();
  }

  #isMeant({ kind }: Entry): boolean {
    return this.#limits.kinds?.includes(kind) ?? true;
  }

  /** What state needs, and what that needs. */
  #stateNow(): ReadonlyMap<string, string> {
    const all = new Map(this.#options.state());
    for (const [id, holder] of all) { // what is added is visited, too
      for (const needed of this.ids.get(id)?.needs ?? []) {
        if (!all.has(needed)) all.set(needed, holder);
      }
    }
    return all;
  }

  /** When an entry was used last, itself or by what needs it. */
  #used(entry: Entry, above = new Set<Entry>()): number {
    above.add(entry);
    return (this.#dependents.get(entry.id) ?? []).reduce(
      (used, one) => above.has(one) ? used : Math.max(used, this.#used(one, above)),
      entry.used,
    );
  }

  async run(): Promise<void> {
    const { bytes = Infinity, age = Infinity } = this.#limits;
    const order = [...this.ids.values()]
      .filter((entry) => this.#isMeant(entry))
      .map((entry) => ({ entry, used: this.#used(entry) }))
      // of those used together, first what needs the others
      .sort((a, b) => a.used - b.used || b.entry.needs.length - a.entry.needs.length);
    const old = (used: number) => this.#options.all === true || this.#now - used > age;
    for (const { entry, used } of order) {
      if (old(used)) await this.#remove(entry);
    }
    for (const { entry } of order) {
      if (this.#ofPrograms <= bytes * ROOM_OF_PROGRAMS) break;
      if (entry.ofProgram) await this.#remove(entry);
    }
    for (const { entry } of order) {
      if (this.bytes <= bytes) break;
      await this.#remove(entry);
    }
  }

  get kept(): { entry: Entry; why: string }[] {
    return Array.from(this.#kept, ([entry, why]) => ({ entry, why }));
  }

  /** Removes an entry after those that need it; none of them when one has to stay. */
  async #remove(entry: Entry): Promise<boolean> {
    if (!this.ids.has(entry.id)) return true;
    if (this.#kept.has(entry) || this.#options.signal?.aborted) return false;
    if (this.#going.has(entry)) return true; // somebody wrote that two need each other
    this.#going.add(entry);
    const keep = (why: string) => {
      this.#kept.set(entry, why);
      return false;
    };
    const why = this.#stays(entry);
    if (why !== undefined) return keep(why);
    const dependents = (this.#dependents.get(entry.id) ?? []).filter(({ id }) => this.ids.has(id));
    const stays = dependents.find((one) => this.#stays(one) !== undefined);
    if (stays !== undefined) return keep(`${stays.id} needs it`);
    for (const one of dependents) {
      if (!(await this.#remove(one))) return keep(`${one.id} needs it`);
    }
    const { remove = removeEntry, dryRun = false, all = false } = this.#options;
    // A process may have given its lease back since, and left it to a record.
    const needed = () => (this.#state = this.#stateNow()).has(entry.id);
    const removal = await remove(entry, { dryRun, anyUse: all, needed });
    const holder = this.#state.get(entry.id);
    if (holder !== undefined) return keep(`${holder} needs it`);
    if (removal === "in use" || removal === "used since") return keep(REASONS[removal]);
    this.ids.delete(entry.id);
    if (this.#isMeant(entry)) {
      this.bytes -= entry.bytes;
      if (entry.ofProgram) this.#ofPrograms -= entry.bytes;
    }
    if (removal === "removed") this.removed.push(entry);
    return true;
  }

  /** Why an entry has to stay, as far as can be told without removing it. */
  #stays(entry: Entry): string | undefined {
    const holder = this.#state.get(entry.id);
    if (holder !== undefined) return `${holder} needs it`;
    const { grace = 0 } = this.#options;
    if (Math.abs(this.#now - entry.used) < grace) return REASONS["used since"];
    return isInUse(entry) ? REASONS["in use"] : undefined;
  }
}

const REASONS: Readonly<Record<Extract<Removal, "in use" | "used since">, string>> = {
  "in use": "in use",
  "used since": "just used",
};

function sumOf(entries: readonly Entry[]): number {
  return entries.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** A name is written after its entry was made; one that is so young may be of an entry not seen yet. */
const NEW_NAME = 60_000;

/** Removes the names of entries that are gone. */
function removeNames({ names }: Contents, ids: ReadonlyMap<string, unknown>, now: number): void {
  for (const { path, id } of names) {
    if (ids.has(id)) continue;
    try {
      const { mtime } = Deno.lstatSync(path);
      if (now - (mtime?.getTime() ?? 0) > NEW_NAME) Deno.removeSync(path);
    } catch {
      // gone, or somebody else's
    }
  }
}
