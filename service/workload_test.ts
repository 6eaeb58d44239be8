import { deepEqual, equal, throws } from "node:assert/strict";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Language, RunVmmRequestSchema } from "../proto/gen/vmmorchestrator/vmm_pb.ts";
import { workloadKey } from "./prepared.ts";
import { workloadOf } from "./workload.ts";

const LIMITS = { defaultMemory: 256, minMemory: 64, maxVcpus: 4, maxTime: 60_000 };
const PLAIN = { pull: false, insecure: false, files: [], run: [] };

function workload(request: MessageInitShape<typeof RunVmmRequestSchema>) {
  const python = { language: Language.PYTHON, code: "pass" };
  return workloadOf(create(RunVmmRequestSchema, { ...python, ...request }), LIMITS);
}

Deno.test("a version is a Debian release's image or an OCI image", () => {
  equal(workload({}).image, undefined);
  deepEqual(workload({ languageVersion: "3.11" }).image, { ...PLAIN, version: "3.11" });
  deepEqual(workload({ languageVersion: "3" }).image, { ...PLAIN, version: "3.13" });
  deepEqual(workload({ languageVersion: "3.12" }).image, {
    ...PLAIN,
    from: "docker.io/library/python:3.12-slim",
  });
});

Deno.test("what is added to an image is added to that of the version", () => {
  const image = { run: ["true"], files: [{ path: "etc/x", mode: 0o600 }] };
  const found = workload({ languageVersion: "3.11", image }).image!;
  deepEqual([found.version, found.from, found.run], ["3.11", undefined, ["true"]]);
  equal(found.files[0]?.path, "etc/x");
});

Deno.test("a version that there is not, or beside an image, is refused", () => {
  throws(() => workload({ languageVersion: "4" }), {
    code: "invalid-input",
    remedy: /python@3\.13, python@3\.11/,
  });
  throws(() => workload({ languageVersion: "3.11", image: { from: "alpine:3" } }), {
    code: "invalid-input",
    message: /python@3\.11 and the image alpine:3/,
  });
  throws(() => workload({ language: Language.COMMAND, languageVersion: "1" }), {
    code: "invalid-input",
    message: /a command has no version/,
  });
});

Deno.test("what is prepared under one version is not used under another", () => {
  const keys = ["", "3.11", "3.13", "3.12"].map((languageVersion) =>
    workloadKey(workload({ languageVersion }))
  );
  equal(new Set(keys).size, keys.length);
});
