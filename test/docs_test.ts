/** The pages of docs/ against what they tell of. */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { problemOf } from "../api/http/problem.ts";
import { createApp } from "../api/http/app.ts";
import { CloudletError, type ErrorCode } from "../base/errors.ts";
import { file_cloudlet_agent_agent } from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { file_vmmorchestrator_vmm } from "../proto/gen/vmmorchestrator/vmm_pb.ts";
import { toConnectError } from "../service/connect_errors.ts";
import { Code } from "@connectrpc/connect";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const wireFormats = Deno.readTextFileSync(join(ROOT, "docs/wire-formats.md"));

Deno.test("links between pages and to files lead somewhere", () => {
  const pages = ["README.md", "CONTRIBUTING.md"];
  for (const { name } of Deno.readDirSync(join(ROOT, "docs"))) pages.push(`docs/${name}`);
  for (const page of pages) {
    const text = Deno.readTextFileSync(join(ROOT, page));
    for (const [, target] of text.matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)) {
      const path = join(ROOT, dirname(page), target!);
      assert.doesNotThrow(() => Deno.statSync(path), `${page} links to ${target}`);
    }
  }
});

Deno.test("the page of wire formats has each message, field and value, and no other", () => {
  const block = wireFormats.split("## Messages")[1]!.split("```")[1]!;
  const told = new Map<string, string[]>();
  let last: string[] = [];
  for (const line of block.split("\n")) {
    const [, name, rest] = /^ {2}(\S+)? +(.*)$/.exec(line) ?? [];
    if (rest === undefined) continue;
    if (name !== undefined) told.set(name, last = []);
    last.push(...rest.split(" ").filter((word) => word.includes("=")));
  }
  const actual = new Map<string, string[]>();
  const plain = (typeName: string) => typeName.replace(/^(vmmorchestrator|cloudlet\.agent)\./, "");
  for (const file of [file_vmmorchestrator_vmm, file_cloudlet_agent_agent]) {
    for (const { typeName, fields, nestedEnums } of file.messages) {
      actual.set(plain(typeName), fields.map(({ name, number }) => `${name}=${number}`));
      for (const { typeName, values } of nestedEnums) {
        actual.set(plain(typeName), values.map(({ name, number }) => `${name}=${number}`));
      }
    }
    for (const { typeName, values } of file.enums) {
      actual.set(plain(typeName), values.map(({ name, number }) => `${name}=${number}`));
    }
  }
  assert.deepEqual(new Map([...told].sort()), new Map([...actual].sort()));
});

Deno.test("the page of wire formats has each call of both services", () => {
  const { VmmService, WorkloadRunner } = Object.fromEntries(
    [file_vmmorchestrator_vmm, file_cloudlet_agent_agent].flatMap(({ services }) =>
      services.map(({ name, methods }) => [name, methods.map(({ name }) => name)])
    ),
  );
  const section = wireFormats.split("## VmmService")[1]!.split("```")[1]!;
  assert.deepEqual(
    [...section.matchAll(/^ {2}(\w+)\(/gm)].map(([, name]) => name).sort(),
    VmmService!.sort(),
  );
  const runner = /WorkloadRunner` \(([\w\s,]+)\)/.exec(wireFormats)![1]!.split(/,\s+/);
  assert.deepEqual(runner.sort(), WorkloadRunner!.sort());
});

Deno.test("the page of wire formats has each route, and no other", () => {
  const nothing = undefined as never; // routes are only listed
  const app = createApp({
    routes: () => {},
    store: nothing,
    check: nothing,
    metrics: nothing,
    ready: () => true,
    maxBody: 1,
    version: "0",
  });
  const routes = app.routes.filter(({ method }) => method !== "ALL")
    .map(({ method, path }) => `${method} ${path}`);
  const told = [...wireFormats.matchAll(/`((?:GET|POST|DELETE) \/\S*)`/g)].map(([, route]) =>
    route
  );
  assert.deepEqual([...new Set(told)].sort(), [...new Set(routes)].sort());
});

Deno.test("the page of wire formats has each kind of error as HTTP and gRPC tell it", () => {
  const rows = [...wireFormats.matchAll(/^\| `([a-z-]+)` +\| (\d+) +\| `([A-Z_]+)`/gm)];
  for (const [, kind = "", status, code] of rows) {
    const error = new CloudletError("Cannot x", { code: kind as ErrorCode });
    assert.equal(problemOf(error).status, Number(status), kind);
    // gRPC's own name of it; Connect's has one L.
    const name = code === "CANCELLED" ? "CANCELED" : code!;
    assert.equal(Code[toConnectError(error).code].toUpperCase(), name.replaceAll("_", ""), kind);
  }
  assert.equal(rows.length, 11);
});
