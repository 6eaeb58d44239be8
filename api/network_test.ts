import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import {
  NetworkEvent_Asked as Asked,
  NetworkEvent_Kind as Kind,
  NetworkEventSchema,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import {
  Network_Access as Access,
  NetworkRule_Action as Action,
} from "../proto/gen/vmmorchestrator/vmm_pb.ts";
import { parseBandwidth, parsePublished, toNetwork, toReport } from "./network.ts";

Deno.test("a published port is written as docker's are", () => {
  assert.deepEqual(parsePublished("8080:80"), { address: "", port: 8080, guestPort: 80 });
  assert.deepEqual(parsePublished("80"), { address: "", port: 0, guestPort: 80 });
  assert.deepEqual(parsePublished("0.0.0.0:8080:80"), {
    address: "0.0.0.0",
    port: 8080,
    guestPort: 80,
  });
  for (const text of ["", ":80", "80:", "8080:0", "65536:80", "8080:65536", "a:80", "[::1]:1:2"]) {
    assert.throws(() => parsePublished(text), /Cannot publish/, text);
  }
});

Deno.test("what is allowed opens the network for just that, and what is denied comes first", () => {
  assert.deepEqual(toNetwork({ allow: ["a.example"], deny: ["b.a.example"] }), {
    access: Access.LISTED,
    rules: [
      { action: Action.DENY, target: "b.a.example" },
      { action: Action.ALLOW, target: "a.example" },
    ],
    publish: [],
    bandwidthKbit: 0,
    secrets: [],
  });
  assert.equal(toNetwork({}).access, Access.NONE);
  assert.equal(toNetwork({ publish: ["80"] }).access, Access.NONE);
  assert.equal(toNetwork({ access: "public", allow: ["host:80"] }).access, Access.PUBLIC);
  assert.equal(toNetwork({ access: "none", allow: ["a.example"] }).access, Access.NONE);
  assert.throws(() => toNetwork({ access: "all" as "public" }), /none, listed, public|"all"/);
});

Deno.test("a bandwidth is read as tc does", () => {
  assert.deepEqual(["500kbit", "10Mbit", "1.5 Gbit", "1kbit"].map(parseBandwidth), [
    ...[500, 10_000, 1_500_000, 1],
  ]);
  for (const text of ["", "10", "10MB", "0kbit", "-1Mbit", "0.0001kbit", "9999999Gbit"]) {
    assert.throws(() => parseBandwidth(text), /as a bandwidth/, text);
  }
  assert.equal(toNetwork({ bandwidth: "8Mbit" }).bandwidthKbit, 8000);
});

Deno.test("an event of the wire is a report without its empty fields", () => {
  const denied = { kind: Kind.DENIED, asked: Asked.NAME, name: "a.example" };
  assert.deepEqual(toReport(create(NetworkEventSchema, denied)), {
    kind: "denied",
    asked: "name",
    name: "a.example",
    floor: false,
  });
  const published = { kind: Kind.PUBLISHED, address: "127.0.0.1", port: 8080, guestPort: 80 };
  assert.deepEqual(toReport(create(NetworkEventSchema, published)), {
    kind: "published",
    address: "127.0.0.1",
    port: 8080,
    guestPort: 80,
  });
  const newer = create(NetworkEventSchema, { kind: Kind.DENIED, asked: 77 as Asked });
  assert.equal(toReport(newer).kind, "denied");
});
