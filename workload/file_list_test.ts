import { equal } from "node:assert/strict";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { FileSchema } from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { fileAt, sameFiles } from "./file_list.ts";

type Fields = Exclude<MessageInitShape<typeof FileSchema>, { $typeName: string }>;
const file = (fields: Fields) => create(FileSchema, { path: "a", ...fields });

Deno.test("files are the same when all that they are is", () => {
  const one = { content: new Uint8Array([1]) };
  equal(sameFiles([file(one)], [file(one)]), true);
  const others = [
    { path: "b", ...one },
    { ...one, mode: 0o755 },
    { content: new Uint8Array([2]) },
    {},
    { target: "x" },
    { target: "y" },
    { directory: true },
  ];
  for (const [i, other] of others.entries()) {
    equal(sameFiles([file(one)], [file(other)]), false);
    for (const [j, another] of others.entries()) {
      equal(sameFiles([file(other)], [file(another)]), i === j);
    }
  }
  equal(sameFiles([file(one)], []), false);
});

Deno.test("a path leads to a file by way of links, but not out and not for ever", () => {
  const files = new Map(
    [
      { path: "src/main.py" },
      { path: "current", target: "src" },
      { path: "a/up", target: ".." },
      { path: "a/main", target: "up/./current/main.py" },
      { path: "out", target: "../p/src/main.py" },
      { path: "absolute", target: "/src/main.py" },
      { path: "loop", target: "pool" },
      { path: "pool", target: "loop" },
      { path: "d", directory: true },
      { path: "long", target: "a/up/".repeat(300) + "src/main.py" },
    ].map((fields) => [fields.path, file(fields)]),
  );
  for (const path of ["src/main.py", "current/main.py", "a/main", "a/up/a/up/a/main"]) {
    equal(fileAt(files, path)?.path, "src/main.py", path);
  }
  for (const path of ["current", "out", "absolute", "loop", "d", "src", "none", "", "..", "long"]) {
    equal(fileAt(files, path), undefined, path);
  }
});
