import assert from "node:assert/strict";
import { contentBytes, copyContent, readContent } from "./content.ts";

Deno.test("a slice of a host file is read whole and no further", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const path = `${directory}/data`;
    const bytes = crypto.getRandomValues(new Uint8Array(50_000));
    const big = new Uint8Array(3_000_000).map((_, i) => bytes[i % bytes.length]!);
    await Deno.writeFile(path, big);
    const content = { kind: "file", path, offset: 4097, size: 2_500_001 } as const;
    assert.deepEqual(contentBytes(content), big.subarray(4097, 4097 + 2_500_001));
    await copyContent(content, `${directory}/copy`);
    assert.deepEqual(await Deno.readFile(`${directory}/copy`), contentBytes(content));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("a host file that became shorter is an error, not zeros", async () => {
  const path = await Deno.makeTempFile();
  try {
    await Deno.writeFile(path, new Uint8Array(100));
    const content = { kind: "file", path, offset: 0, size: 101 } as const;
    assert.throws(() => [...readContent(content)], { code: "untrusted" });
  } finally {
    await Deno.remove(path);
  }
});
