/**
 * What each language's interpreter reads only when it starts. One that started before there was a
 * program cannot take it up afterwards, so it decides which programs an idle interpreter can run.
 *
 * @module
 */

/** What one interpreter reads only when it starts. */
export interface StartupInputs {
  /** Names of environment variables. */
  readonly variables: RegExp;
  /** Whether the main file is none of it: an idle interpreter runs a file of any name. */
  readonly anyFile: boolean;
  /** Names of a project's files. */
  readonly files?: RegExp;
  /** In the text of such a file: it names others that are read as well. */
  readonly references?: RegExp;
}

/** Of the C library and of everything. */
const EVERYWHERE = "LANG|LANGUAGE|LC_.*|LD_.*|TZ|MALLOC_.*|GLIBC_.*|GCONV_.*|HOME|PATH";

/** CPython. */
export const pythonInputs: StartupInputs = {
  variables: new RegExp(`^(PYTHON.*|${EVERYWHERE})$`),
  anyFile: true,
};

/** Node.js. */
export const nodeInputs: StartupInputs = {
  variables: new RegExp(`^(NODE_.*|UV_.*|OPENSSL_.*|SSL_.*|${EVERYWHERE})$`),
  anyFile: true,
};

/** Deno. */
export const denoInputs: StartupInputs = {
  variables: new RegExp(
    `^(DENO_.*|NPM_CONFIG_.*|V8_.*|NO_COLOR|FORCE_COLOR|RUST_.*|${EVERYWHERE})$`,
  ),
  anyFile: false,
  files: /^(deno\.jsonc?|deno\.lock|package\.json|\.npmrc|tsconfig\.(.+\.)?json)$/,
  references: /"(importMap|vendor|lock|links|patch)"\s*:/,
};

/** GNU bash. */
export const bashInputs: StartupInputs = {
  // ... and names that are no identifiers, or that belong to the shell
  variables: new RegExp(
    `^(BASH.*|SHELL.*|.*ID|IFS|ENV|POSIXLY_CORRECT|OPT.*|PWD|OLDPWD|_|REPLY|\\d.*|.*\\W.*|` +
      `${EVERYWHERE})$`,
  ),
  anyFile: false,
};
