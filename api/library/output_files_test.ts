import { deepEqual, throws } from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { FileSchema } from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import { OutputFiles } from "./output_files.ts";

const piece = (path: string, offset: number, size = 1, mode = 0o644) =>
  create(FileSchema, { path, mode, offset: BigInt(offset), content: new Uint8Array(size) });

Deno.test("pieces have the path that was asked for, wherever the program runs", () => {
  const files = new OutputFiles(["out/", "./a", "../b"], "sub");
  deepEqual(files.paths, ["sub/out", "sub/a", "b"]);
  const path = (inGuest: string) => files.take(piece(inGuest, 0)).path;
  deepEqual(["sub/out/x/y", "sub/a", "b", "b/c"].map(path), ["out/x/y", "./a", "../b", "../b/c"]);
});

Deno.test("a guest sends nothing else, nowhere else and no more", () => {
  const limits = { files: 2, bytes: 10, pieces: 4 };
  const refused = (why: RegExp, ...pieces: ReturnType<typeof piece>[]) => {
    const files = new OutputFiles(["out", "file"], "", limits);
    pieces.slice(0, -1).forEach((one) => files.take(one));
    throws(() => files.take(pieces.at(-1)!), { code: "guest", message: why });
  };
  refused(/not asked for/, piece("other", 0));
  refused(/not asked for/, piece("output", 0));
  refused(/not asked for/, piece("/out", 0));
  refused(/leads elsewhere/, piece("out/../../x", 0));
  refused(/leads elsewhere/, piece("out/./x", 0));
  refused(/leads elsewhere/, piece("out//x", 0));
  refused(/leads elsewhere/, piece("out/", 0));
  refused(/leads elsewhere/, piece("out/a\0b", 0));
  refused(/out of order/, piece("file", 1));
  refused(/out of order/, piece("file", 0), piece("file", 0));
  refused(/more than 2$/, piece("file", 0), piece("out/a", 0), piece("out/b", 0));
  refused(/more than 10 bytes/, piece("file", 0, 6), piece("file", 6, 5));
  const empty = [0, 1, 2, 3, 4].map(() => piece("file", 0, 0));
  refused(/more than 4 pieces/, ...empty);
  deepEqual(new OutputFiles(["a"], "").take(piece("a", 0, 0, 0o6755)).mode, 0o755);
});

Deno.test("what is not below the workload, or twice in it, cannot be asked for", () => {
  for (const path of ["", "/x", "..", "../x", "a/../..", ".", "a/.."]) {
    throws(() => new OutputFiles([path], ""), { code: "invalid-input" }, path);
  }
  throws(() => new OutputFiles(["../.."], "sub"), { code: "invalid-input" });
  throws(() => new OutputFiles(["a/b", "a"], ""), { message: /"a\/b" is in "a"/ });
  throws(() => new OutputFiles(["a", "./a"], ""), { code: "invalid-input" });
});
