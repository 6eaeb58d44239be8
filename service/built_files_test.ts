import { deepEqual, equal, throws } from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { FileSchema } from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { BuiltFiles } from "./built_files.ts";

const utf8 = new TextEncoder();
const piece = (path: string, text: string, offset = 0) =>
  create(FileSchema, { path, content: utf8.encode(text), mode: 0o755, offset: BigInt(offset) });

Deno.test("pieces of built files are put together, and what no agent sends is refused", () => {
  const built = new BuiltFiles();
  for (const part of [piece("a", "12"), piece("b", "x"), piece("a", "34", 2), piece("c", "")]) {
    built.add(part);
  }
  deepEqual(
    built.files.map(({ path, mode, content }) => [path, mode, new TextDecoder().decode(content)]),
    [["a", 0o755, "1234"], ["b", 0o755, "x"], ["c", 0o755, ""]],
  );
  equal(built.bytes, 5);
  throws(() => built.add(piece("a", "hole", 9)), { code: "guest", message: /out of order/ });
  throws(() => built.add(piece("a", "again")), { code: "guest", message: /out of order/ });
  throws(() => built.add(piece("d", "hole", 1)), { code: "guest", message: /out of order/ });
  const long = piece("x/".repeat(5000), "");
  throws(() => built.add(long), { code: "guest", message: /path of a file is too long/ });
  equal(built.files.length, 3);
});

Deno.test("built files are taken up to their number, their bytes and their pieces", () => {
  const limits = { files: 2, bytes: 6, pieces: 4 };
  const bytes = new BuiltFiles(limits);
  bytes.add(piece("a", "1234"));
  throws(() => bytes.add(piece("a", "567", 4)), { code: "guest", message: /more than 6 bytes/ });
  bytes.add(piece("a", "56", 4));
  bytes.add(piece("b", ""));
  throws(() => bytes.add(piece("c", "")), { code: "guest", message: /more than 2$/ });
  bytes.add(piece("b", ""));
  throws(() => bytes.add(piece("b", "")), { code: "guest", message: /more than 4 pieces/ });
  // What a guest with nothing else to do could send: empty pieces without an end.
  const endless = new BuiltFiles();
  throws(() => {
    for (;;) endless.add(piece("a", ""));
  }, { code: "guest", message: /pieces/ });
  const large = create(FileSchema, { path: "c", content: new Uint8Array(129 << 20) });
  throws(() => new BuiltFiles().add(large), { code: "guest", message: /134217728 bytes/ });
});
