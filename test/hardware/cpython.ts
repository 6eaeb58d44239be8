/**
 * CPython's own tests of the system that it runs on, as Debian packages them.
 *
 * @module
 */

/** Package with the tests of the Python of builder/image/versions.ts; no other one depends on it. */
export const CPYTHON_PACKAGES = ["libpython3.13-testsuite"];

/** Modules that use the system most. */
export const CPYTHON_MODULES = [
  "test_os",
  "test_subprocess",
  "test_time",
  "test_locale",
  "test_socket",
  "test_asyncio",
  "test_multiprocessing_spawn",
  "test_signal",
  "test_pty",
  "test_tempfile",
];

/**
 * A program that becomes CPython's test runner.
 *
 * @param names modules, or parts of one such as `test.test_os.URandomTests`
 * @param seconds after which a test that hangs ends the run with a traceback of all threads
 */
export function testRunner(names: readonly string[], seconds: number): string {
  const args = ["-m", "test", "--verbose3", "--timeout", String(seconds), ...names];
  return `import os, sys\nos.execv(sys.executable, [sys.executable, *${JSON.stringify(args)}])\n`;
}
