import assert from "node:assert/strict";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ExecuteRequestSchema, type OptionsSchema } from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { asImageWants } from "./image_program.ts";

const IMAGE = {
  env: ["PATH=/opt/bin", "A=first", "A=image", "EMPTY=", "malformed"],
  entrypoint: ["/entry", "-x"],
  cmd: ["default"],
  workingDir: "/work",
  user: "web",
};

function wanted(
  language: string,
  options: MessageInitShape<typeof OptionsSchema>,
  image = IMAGE,
) {
  const request = create(ExecuteRequestSchema, { language, options });
  return asImageWants(request, image).options!;
}

Deno.test("an image's command follows its entry point, and arguments take its place", () => {
  assert.deepEqual(wanted("command", {}).args, ["/entry", "-x", "default"]);
  assert.deepEqual(wanted("command", { args: ["a", "b"] }).args, ["/entry", "-x", "a", "b"]);
  assert.deepEqual(wanted("command", { args: ["sh"] }, { ...IMAGE, entrypoint: [] }).args, ["sh"]);
});

Deno.test("an image without a command has to be told one", () => {
  const empty = { ...IMAGE, entrypoint: [], cmd: [] };
  assert.throws(() => wanted("command", {}, empty), { code: "invalid-input", remedy: /command/ });
});

Deno.test("environment, user and directory are the image's unless the request has its own", () => {
  const options = wanted("command", { env: { A: "request" } });
  assert.deepEqual(options.env, { PATH: "/opt/bin", A: "request", EMPTY: "" });
  assert.equal(wanted("command", {}).env["A"], "image");
  assert.deepEqual([options.user, options.commandDirectory], ["web", "/work"]);
  const own = wanted("command", { user: "1:2", commandDirectory: "/own" });
  assert.deepEqual([own.user, own.commandDirectory], ["1:2", "/own"]);
  assert.equal(wanted("command", {}, { ...IMAGE, workingDir: "srv" }).commandDirectory, "/srv");
});

Deno.test("a program with a source keeps its arguments, and gets no entry point", () => {
  const options = wanted("python", { args: ["a"] });
  assert.deepEqual(options.args, ["a"]);
  assert.equal(options.env["PATH"], "/opt/bin");
  assert.equal(options.user, "web");
});

Deno.test("a language's own image changes nothing", () => {
  const request = create(ExecuteRequestSchema, { language: "python" });
  assert.equal(asImageWants(request, undefined), request);
});
