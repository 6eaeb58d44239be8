/**
 * Which packages are needed for some packages: Debian Policy 7 (relationships), with apt's choices
 * where the policy leaves one: the first alternative that can be had, a real package before one that
 * provides it, the highest version. Recommends are left out.
 *
 * The search goes depth first and steps back when it meets a conflict.
 *
 * @module
 */
import { ARCHITECTURE } from "../architecture.ts";
import { CloudletError } from "../../base/errors.ts";
import { type Clause, formatRelation, type Relation } from "./control.ts";
import type { PackageIndex, PackageRecord } from "./packages.ts";
import { satisfies } from "./version.ts";

const MAX_STEPS = 1_000_000; // clauses looked at, over all that is tried

/** What is still to be done; shared between branches of the search. */
interface Agenda {
  /** `need`: choose a package for the clause; `expand`: go into the one that was chosen for it. */
  readonly kind: "need" | "expand";
  readonly clause: Clause;
  /** Whose dependency it is; undefined for what was asked for. */
  readonly owner: PackageRecord | undefined;
  readonly next: Agenda | undefined;
}

/** Where the search can go on in another way. */
interface ChoicePoint {
  readonly agenda: Agenda;
  /** How many packages had been chosen. */
  readonly chosen: number;
  /** Candidates not tried yet, the best last. */
  readonly rest: PackageRecord[];
}

/** Packages chosen so far, with what they provide and exclude. */
class Selection {
  readonly chosen: PackageRecord[] = [];
  readonly #byName = new Map<string, PackageRecord>();
  readonly #provided = new Map<string, PackageRecord[]>();
  readonly #excluded = new Map<string, { owner: PackageRecord; relation: Relation }[]>();

  add(record: PackageRecord): void {
    this.chosen.push(record);
    this.#byName.set(record.name, record);
    for (const clause of record.provides) append(this.#provided, clause[0]!.name, record);
    for (const clause of record.conflicts) {
      for (const relation of clause) {
        append(this.#excluded, relation.name, { owner: record, relation });
      }
    }
  }

  /** Goes back to the first `length` packages. */
  truncate(length: number): void {
    const kept = this.chosen.slice(0, length);
    this.chosen.length = 0;
    this.#byName.clear();
    this.#provided.clear();
    this.#excluded.clear();
    for (const record of kept) this.add(record);
  }

  /** The chosen package that satisfies the relation, if there is one. */
  satisfying(relation: Relation): PackageRecord | undefined {
    const real = this.#byName.get(relation.name);
    if (real !== undefined && matches(real, relation)) return real;
    return this.#provided.get(relation.name)?.find((record) => provides(record, relation));
  }

  /** Why the package cannot join those chosen, or undefined when it can. */
  obstacle(record: PackageRecord): string | undefined {
    const same = this.#byName.get(record.name);
    if (same !== undefined && same !== record) {
      return `${label(same)} is already chosen`;
    }
    for (const clause of record.conflicts) {
      for (const relation of clause) {
        const other = this.#victim(relation, record);
        if (other !== undefined) return conflict(record, relation, other);
      }
    }
    const names = [record.name, ...record.provides.map((clause) => clause[0]!.name)];
    for (const name of names) {
      for (const { owner, relation } of this.#excluded.get(name) ?? []) {
        if (owner === record || owner.name === record.name) continue;
        if (matchesConflict(record, relation)) return conflict(owner, relation, record);
      }
    }
    return undefined;
  }

  #victim(relation: Relation, owner: PackageRecord): PackageRecord | undefined {
    // Policy 7.4: a package may conflict with a virtual package that it provides itself.
    const candidates = [
      this.#byName.get(relation.name),
      ...this.#provided.get(relation.name) ?? [],
    ];
    return candidates.find((other) =>
      other !== undefined && other.name !== owner.name && matchesConflict(other, relation)
    );
  }
}

function append<T>(map: Map<string, T[]>, key: string, value: T): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}

function label({ name, version }: PackageRecord): string {
  return `${name} ${version}`;
}

function conflict(owner: PackageRecord, relation: Relation, other: PackageRecord): string {
  return `${label(owner)} conflicts with ${formatRelation(relation)}, which is ${label(other)}`;
}

function versionFits(version: string | undefined, { version: wanted }: Relation): boolean {
  if (wanted === undefined) return true;
  return version !== undefined && satisfies(version, wanted.relation, wanted.version);
}

/** Whether the real package satisfies the relation by its own name. */
function matches(record: PackageRecord, relation: Relation): boolean {
  if (record.name !== relation.name || !versionFits(record.version, relation)) return false;
  switch (relation.qualifier) {
    case undefined:
    case "native":
    case ARCHITECTURE:
      return true;
    case "any":
      return record.multiArchAllowed;
    default:
      return false; // of another architecture
  }
}

/** Whether the package satisfies the relation by its Provides (Policy 7.5). */
function provides(record: PackageRecord, relation: Relation): boolean {
  if (relation.qualifier !== undefined && relation.qualifier !== ARCHITECTURE) {
    // "name:any" is only satisfied by real packages, or by one that provides "name:any" itself.
    if (relation.qualifier !== "any") return false;
    return record.provides.some(([virtual]) =>
      virtual!.name === relation.name && virtual!.qualifier === "any" &&
      versionFits(virtual!.version?.version, relation)
    );
  }
  return record.provides.some(([virtual]) =>
    virtual!.name === relation.name && versionFits(virtual!.version?.version, relation)
  );
}

function matchesConflict(record: PackageRecord, relation: Relation): boolean {
  const { qualifier, ...plain } = relation;
  if (qualifier !== undefined && !["any", "native", ARCHITECTURE].includes(qualifier)) return false;
  const unqualified = { ...plain, qualifier: undefined };
  return (record.name === relation.name && versionFits(record.version, relation)) ||
    provides(record, unqualified);
}

/** As apt orders providers: essential ones first, then by priority, then as the index has them. */
function compareProviders(a: PackageRecord, b: PackageRecord): number {
  return Number(b.essential) - Number(a.essential) || a.priority - b.priority || a.order - b.order;
}

/** Packages that could satisfy the clause, the best first. */
function candidates(index: PackageIndex, clause: Clause): PackageRecord[] {
  const found = new Set<PackageRecord>();
  const older = new Set<PackageRecord>();
  for (const relation of clause) {
    for (const [i, record] of index.versions(relation.name).entries()) {
      if (matches(record, relation)) (i === 0 ? found : older).add(record);
    }
    const providers = index.providers(relation.name).filter((record) =>
      record.name !== relation.name && provides(record, relation)
    ).sort(compareProviders);
    for (const record of providers) {
      (index.versions(record.name)[0] === record ? found : older).add(record);
    }
  }
  // What is not the highest version comes last: apt would not even look at it.
  return [...found, ...[...older].filter((record) => !found.has(record))];
}

/** Options of {@linkcode resolve}. */
export interface ResolveOptions {
  /** Whether the packages that are `Essential: yes` are asked for too. */
  readonly essential?: boolean;
}

/**
 * The packages needed for `names`, each after those that it depends on (where cycles allow it).
 *
 * @param index what there is
 * @param names real or virtual packages
 * @returns the same packages in the same order for the same index and names
 * @throws {CloudletError} `not-found` for a name that does not exist, `conflict` when they cannot be
 *   had together
 */
export function resolve(
  index: PackageIndex,
  names: readonly string[],
  options: ResolveOptions = {},
): PackageRecord[] {
  const wanted = [...new Set([...names, ...options.essential ? index.essential() : []])];
  const roots = wanted.map((name): Clause => [{ name, qualifier: undefined, version: undefined }]);
  for (const [i, clause] of roots.entries()) {
    if (candidates(index, clause).length === 0) throw unknownPackage(wanted[i]!, index);
  }
  // What is asked for is chosen before any dependency: it decides which alternative is at hand.
  let agenda: Agenda | undefined;
  for (const kind of ["expand", "need"] as const) {
    for (const clause of roots.toReversed()) {
      agenda = { kind, clause, owner: undefined, next: agenda };
    }
  }
  return inOrder(search(index, agenda));
}

function search(index: PackageIndex, start: Agenda | undefined): Selection {
  const selection = new Selection();
  const choices: ChoicePoint[] = [];
  let agenda = start;
  let steps = 0;
  let firstFailure: string | undefined;
  while (agenda !== undefined) {
    const { kind, clause, owner, next } = agenda;
    const chosen = satisfied(selection, clause);
    if (kind === "expand") {
      agenda = needs(chosen!, next);
      continue;
    }
    if (chosen !== undefined) {
      agenda = next;
      continue;
    }
    let choice: ChoicePoint | undefined = {
      agenda,
      chosen: selection.chosen.length,
      rest: candidates(index, clause).reverse(),
    };
    let obstacle = "no package is that";
    let found: PackageRecord | undefined;
    while (choice !== undefined) {
      if (++steps > MAX_STEPS) break;
      const candidate = choice.rest.pop();
      if (candidate !== undefined) {
        const why = selection.obstacle(candidate);
        if (why === undefined) {
          found = candidate;
          break;
        }
        obstacle = why;
        continue;
      }
      const what = clause.map(formatRelation).join(" | ");
      firstFailure ??= `${owner === undefined ? "it was asked for" : label(owner)} ` +
        `${owner === undefined ? what : `depends on ${what}`}: ${obstacle}`;
      choice = choices.pop();
      if (choice !== undefined) selection.truncate(choice.chosen);
    }
    if (found === undefined || choice === undefined) {
      throw new CloudletError(`Cannot resolve the packages: ${firstFailure ?? "too many ways"}`, {
        code: "conflict",
        remedy: "ask for packages that can be installed together, or check the mirror's suites",
      });
    }
    if (choice.rest.length > 0) choices.push(choice);
    selection.add(found);
    // Dependencies of what was asked for wait until all of it is chosen.
    agenda = choice.agenda.owner === undefined
      ? choice.agenda.next
      : needs(found, choice.agenda.next);
  }
  return selection;
}

function satisfied(selection: Selection, clause: Clause): PackageRecord | undefined {
  for (const relation of clause) {
    const record = selection.satisfying(relation);
    if (record !== undefined) return record;
  }
  return undefined;
}

/** The agenda with the dependencies of `owner` in front. */
function needs(owner: PackageRecord, rest: Agenda | undefined): Agenda | undefined {
  let agenda = rest;
  for (const clause of owner.depends.toReversed()) {
    agenda = { kind: "need", clause, owner, next: agenda };
  }
  return agenda;
}

/** The chosen packages, dependencies first; a cycle is cut where it is entered. */
function inOrder(selection: Selection): PackageRecord[] {
  const result = new Set<PackageRecord>();
  const visited = new Set<PackageRecord>();
  const visit = (record: PackageRecord) => {
    if (visited.has(record)) return;
    visited.add(record);
    for (const clause of record.depends) {
      const dependency = satisfied(selection, clause);
      if (dependency !== undefined) visit(dependency);
    }
    result.add(record);
  };
  for (const record of selection.chosen) visit(record);
  return [...result];
}

function unknownPackage(name: string, index: PackageIndex): CloudletError {
  const similar = [...index.names()].filter((other) => distance(name, other) <= 2).sort((a, b) =>
    distance(name, a) - distance(name, b) || (a < b ? -1 : 1)
  ).slice(0, 3);
  return new CloudletError(
    `Cannot find the package ${JSON.stringify(name)} in the mirror's suites`,
    {
      code: "not-found",
      remedy: similar.length > 0 ? `did you mean ${similar.join(", ")}` : "check the name",
    },
  );
}

/** Levenshtein distance, cut off above 2. */
function distance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 2) return 3;
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1));
    }
    if (Math.min(...next) > 2) return 3;
    row = next;
  }
  return row[b.length]!;
}
