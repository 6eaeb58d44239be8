/**
 * What update-alternatives(1) would do when packages are configured: `--install` in their postinst
 * scripts is found without running them.
 *
 * @module
 */
import { fileNode, symlinkNode, type Tree } from "../tree.ts";

interface Choice {
  readonly path: string;
  readonly priority: number;
  /** Targets of the slave links by name. */
  readonly slaves: ReadonlyMap<string, string>;
}

interface Alternative {
  readonly link: string;
  /** Links of the slaves by name. */
  readonly slaveLinks: Map<string, string>;
  readonly choices: Choice[];
}

const STATE = "var/lib/dpkg/alternatives";
const LINKS = "etc/alternatives";
const NAME = /^[A-Za-z0-9][A-Za-z0-9._+-]*$/;

/** Slaves that a package's script computes, so that its text does not have them. */
const COMPUTED: Readonly<Record<string, readonly [link: string, target: string][]>> = {
  // xz-utils.postinst
  lzma: [
    ["/usr/bin/unlzma", "/usr/bin/unxz"],
    ...["cat", "more", "less", "diff", "cmp", "grep", "egrep", "fgrep"].map((tool) =>
      [`/usr/bin/lz${tool}`, `/usr/bin/xz${tool}`] as [string, string]
    ),
  ],
};

/** The words of each `update-alternatives --install` whose words are all literal. */
function* installations(script: string): Generator<string[]> {
  const text = script.replaceAll(/\\\n/g, " ");
  for (const [, rest] of text.matchAll(/^[^#\n]*\bupdate-alternatives\s+(.*)$/gm)) {
    const words: string[] = [];
    for (const word of rest!.trim().split(/\s+/)) {
      if (/[;|&()`$<>]/.test(word)) break; // the command's end, or something computed
      words.push(word.replaceAll(/["']/g, ""));
    }
    while (words.length > 0 && words[0] !== "--install" && words[0]!.startsWith("--")) {
      words.shift();
    }
    if (words.shift() === "--install" && words.length >= 4) yield words;
  }
}

function add(alternatives: Map<string, Alternative>, words: readonly string[]): void {
  const [link, name, path, priority, ...rest] = words as [string, string, string, string];
  const absolute = [link, path].every((path) => path.startsWith("/") && !path.includes("/../"));
  if (!absolute || !NAME.test(name) || !/^-?\d+$/.test(priority)) return;
  let alternative = alternatives.get(name);
  if (alternative === undefined) {
    alternatives.set(name, alternative = { link, slaveLinks: new Map(), choices: [] });
  }
  const slaves = new Map<string, string>();
  const addSlave = (link: string, name: string, target: string) => {
    if (!link.startsWith("/") || !target.startsWith("/") || !NAME.test(name)) return;
    if (!alternative.slaveLinks.has(name)) alternative.slaveLinks.set(name, link);
    slaves.set(name, target);
  };
  for (let i = 0; rest[i] === "--slave" && i + 3 < rest.length; i += 4) {
    addSlave(rest[i + 1]!, rest[i + 2]!, rest[i + 3]!);
  }
  if (Object.hasOwn(COMPUTED, name) && rest.length === 0) {
    for (const [link, target] of COMPUTED[name]!) {
      addSlave(link, link.slice(link.lastIndexOf("/") + 1), target);
    }
  }
  alternative.choices.push({ path, priority: Number(priority), slaves });
}

/**
 * Links each alternative to its best choice, in automatic mode, and notes both for
 * update-alternatives itself.
 *
 * @param scripts texts of the postinst scripts, in the order in which packages are configured
 */
export function addAlternatives(tree: Tree, scripts: Iterable<string>): void {
  const alternatives = new Map<string, Alternative>();
  for (const script of scripts) {
    for (const words of installations(script)) add(alternatives, words);
  }
  for (const [name, { link, slaveLinks, choices }] of alternatives) {
    const there = choices.filter(({ path }) => tree.lookup(path) !== undefined);
    const best = there.reduce<Choice | undefined>(
      (best, choice) => best === undefined || choice.priority > best.priority ? choice : best,
      undefined,
    );
    if (best === undefined || !linkTo(tree, link, name, best.path)) continue;
    const slaves = [...slaveLinks].sort(([a], [b]) => a < b ? -1 : 1);
    for (const [slave, slaveLink] of slaves) {
      const target = best.slaves.get(slave);
      if (target !== undefined && tree.lookup(target) !== undefined) {
        linkTo(tree, slaveLink, slave, target);
      }
    }
    // lib/dpkg/... utils/update-alternatives.c, alternative_save()
    const record = [
      "auto",
      link,
      ...slaves.flat(),
      "",
      ...there.sort((a, b) => a.path < b.path ? -1 : 1).flatMap((choice) => [
        choice.path,
        String(choice.priority),
        ...slaves.map(([slave]) => choice.slaves.get(slave) ?? ""),
      ]),
      "",
    ];
    tree.add(`${STATE}/${name}`, fileNode(`${record.join("\n")}\n`));
  }
}

/** Makes `link` a link to `target` by way of `etc/alternatives`; a file in its place stays. */
function linkTo(tree: Tree, link: string, name: string, target: string): boolean {
  const path = link.slice(1);
  const existing = tree.lookup(path);
  if (existing !== undefined && existing.type !== "symlink") return false;
  tree.add(`${LINKS}/${name}`, symlinkNode(target));
  tree.add(path, symlinkNode(`/${LINKS}/${name}`));
  return true;
}
