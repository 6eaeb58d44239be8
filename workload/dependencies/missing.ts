/**
 * What a build says that it lacks of the system: headers, libraries and programs, in the words of compilers,
 * linkers and build tools. The words come from a guest.
 *
 * @module
 */

/** Something that a Debian package may have. */
export interface MissingFile {
  /** As the build calls it, such as `libpq-fe.h`. */
  readonly name: string;
  /** Paths below the root, without the first slash, of which one would do; the last `*` names any directory. */
  readonly paths: readonly string[];
}

/** Things that are looked for. */
const MOST = 4;
const MULTIARCH = Deno.build.arch === "x86_64" ? "x86_64-linux-gnu" : "aarch64-linux-gnu";
const NAME = String.raw`([A-Za-z0-9_][A-Za-z0-9_+.\/-]{0,99})`;

const header = (
  name: string,
) => [`usr/include/${name}`, `usr/include/${MULTIARCH}/${name}`, `usr/include/*/${name}`];
const library = (name: string) => [`usr/lib/${MULTIARCH}/lib${name}.so`];
const program = (name: string) => [`usr/bin/${name}`];
const pkgConfig = (name: string) => [
  `usr/lib/${MULTIARCH}/pkgconfig/${name}.pc`,
  `usr/share/pkgconfig/${name}.pc`,
];

const WORDS: readonly (readonly [RegExp, (name: string) => string[], (name: string) => string])[] =
  [
    // gcc and clang
    [
      new RegExp(`fatal error: '?${NAME}'?(?:: No such file or directory| file not found)`, "g"),
      header,
      (name) => name,
    ],
    // GNU ld, and lld
    [
      new RegExp(`(?:cannot find|unable to find library) -l${NAME}`, "g"),
      library,
      (name) => `lib${name}.so`,
    ],
    // pkg-config and pkgconf, and what crates say of them
    [
      new RegExp(`Package '?${NAME}'?(?:, required by '[^']*',)?(?: was)? not found`, "g"),
      pkgConfig,
      (name) => `${name}.pc`,
    ],
    [new RegExp(`No package '${NAME}' found`, "g"), pkgConfig, (name) => `${name}.pc`],
    // shells, Python, psycopg2, mysqlclient and cmake-rs
    [new RegExp(`(?:^|: )${NAME}: (?:command )?not found$`, "gm"), program, (name) => name],
    [new RegExp(`No such file or directory: '${NAME}'`, "g"), program, (name) => name],
    [new RegExp(`${NAME} executable not found`, "g"), program, (name) => name],
    [new RegExp(`is \`${NAME}\` not installed\\?`, "g"), program, (name) => name],
  ];

/**
 * What a build says that it lacks.
 *
 * @param output its last words
 */
export function missingFiles(output: string): MissingFile[] {
  const found = new Map<string, MissingFile>();
  for (const [words, paths, nameOf] of WORDS) {
    for (const [, what] of output.matchAll(words)) {
      if (found.size === MOST || what!.includes("..") || what!.startsWith("/")) continue;
      const name = nameOf(what!);
      found.set(name, { name, paths: paths(what!) });
    }
  }
  return [...found.values()];
}
