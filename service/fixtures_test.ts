/** What the tests of prepared workloads share. */
import { PreparedWorkloads } from "./prepared.ts";

/** Has a test use a store of prepared workloads, which ends with it. */
export async function withPrepared(
  test: (prepared: PreparedWorkloads, root: string) => Promise<void>,
): Promise<void> {
  const root = await Deno.makeTempDir();
  try {
    await test(new PreparedWorkloads(root), root);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}
