/**
 * Where a guest has what was installed for its program, which is a layer of its root file system.
 *
 * ```text
 * /opt/dependencies/python/         an environment of Python's (PEP 405)
 *                   node_modules/   appears in the project's directory, by a bind mount
 *                   cargo/          CARGO_HOME
 *                   deno/           DENO_DIR
 *                   locks/          locks that installing made; a project without its own gets them
 * ```
 *
 * @module
 */

/** See the module. */
export const DEPENDENCIES = "/opt/dependencies";
