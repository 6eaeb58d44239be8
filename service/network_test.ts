import assert from "node:assert/strict";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  NetworkEvent_Asked as Asked,
  NetworkEvent_Kind as Kind,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import {
  Network_Access as Access,
  NetworkRule_Action as Action,
  NetworkSchema,
} from "../proto/gen/vmmorchestrator/vmm_pb.ts";
import { networkEvent, networkOf, OWN_NETWORK } from "./network.ts";

const asked = (network: MessageInitShape<typeof NetworkSchema>) => create(NetworkSchema, network);
const allow = (...targets: string[]) => targets.map((target) => ({ action: Action.ALLOW, target }));
const { NONE, LISTED, PUBLIC } = Access;

Deno.test("without a wish there is no network, and no access without rules or ports is none", () => {
  assert.equal(networkOf(undefined, OWN_NETWORK), undefined);
  assert.equal(networkOf(asked({ access: NONE })), undefined);
  assert.deepEqual(networkOf(asked({ access: NONE, publish: [{ guestPort: 80 }] }), OWN_NETWORK), {
    policy: undefined,
    publish: [{ address: "127.0.0.1", port: 0, guestPort: 80 }],
  });
});

Deno.test("no request gets more than the service allows", () => {
  const most = (access: "none" | "listed" | "public") => ({ access, floor: "always" as const });
  const listed = asked({ access: LISTED, rules: allow("a.example") });
  for (const limits of [undefined, most("none")]) {
    assert.throws(() => networkOf(listed, limits), /has none to give/);
    assert.throws(() => networkOf(asked({ publish: [{ guestPort: 1 }] }), limits), /none to give/);
  }
  assert.throws(() => networkOf(asked({ access: PUBLIC }), most("listed")), /allows listed access/);
  const everywhere = asked({ publish: [{ address: "0.0.0.0", guestPort: 80 }] });
  assert.throws(() => networkOf(everywhere, most("public")), /publishes no port on 0\.0\.0\.0/);
  assert.equal(networkOf(everywhere, OWN_NETWORK)?.publish[0]?.address, "0.0.0.0");
  assert.equal(networkOf(listed, most("listed"))?.policy?.otherwise, "deny");
  const open = networkOf(asked({ access: PUBLIC }), most("public"));
  assert.deepEqual(open?.policy, { rules: [], otherwise: "allow", floor: "always" });
  for (const target of ["host:80", "10.0.0.0/8", "127.0.0.1", "169.254.169.254:80"]) {
    const private_ = asked({ access: LISTED, rules: allow(target) });
    assert.throws(() => networkOf(private_, most("public")), /does not let programs reach/, target);
    assert(networkOf(private_, OWN_NETWORK)?.policy);
    const denied = asked({ access: PUBLIC, rules: [{ action: Action.DENY, target }] });
    assert(networkOf(denied, most("public")));
  }
});

Deno.test("a program has the bandwidth that it asks for, up to the service's", () => {
  const of = (bandwidthKbit: number, bandwidth?: number) =>
    networkOf(asked({ access: PUBLIC, bandwidthKbit }), { ...OWN_NETWORK, bandwidth })?.bandwidth;
  assert.deepEqual([of(0), of(8), of(8, 500), of(0, 500), of(8, 5000)], [
    ...[undefined, 1000, 500, 500, 1000],
  ]);
});

Deno.test("rules and ports that make no sense are refused", () => {
  const cases: (readonly [MessageInitShape<typeof NetworkSchema>, RegExp])[] = [
    [{ access: NONE, rules: allow("a.example") }, /access is none, and there are rules or secrets/],
    [{ access: 3 as Access }, /no access number 3/],
    [{ access: LISTED, rules: [{ action: 2 as Action, target: "a" }] }, /no action number 2/],
    [{ access: LISTED, rules: allow("a b") }, /is no name/],
    [{ publish: [{ port: 80 }] }, /cannot be joined/],
    [{ publish: [{ port: 65536, guestPort: 80 }] }, /cannot be joined/],
    [{ publish: [{ port: 80, guestPort: 65536 }] }, /cannot be joined/],
    [{ publish: [{ address: "localhost", guestPort: 80 }] }, /no IPv4 address/],
    [{ publish: [{ port: 80, guestPort: 1 }, { port: 80, guestPort: 2 }] }, /published twice/],
  ];
  for (const [network, why] of cases) {
    assert.throws(() => networkOf(asked(network), OWN_NETWORK), why);
  }
  const free = { publish: [{ port: 0, guestPort: 1 }, { port: 0, guestPort: 1 }] };
  assert.equal(networkOf(asked(free), OWN_NETWORK)?.publish.length, 2);
});

Deno.test("what happens is said on the wire", () => {
  const denied = networkEvent({
    kind: "denied",
    what: "server-name",
    name: "b.example",
    address: "203.0.113.7",
    port: 443,
  });
  assert.equal(denied.kind, Kind.DENIED);
  assert.equal(denied.asked, Asked.SERVER_NAME);
  assert.deepEqual([denied.name, denied.address, denied.port], ["b.example", "203.0.113.7", 443]);
  const place = { address: "127.0.0.1", port: 8080, guestPort: 80 };
  const published = networkEvent({ kind: "published", ...place });
  assert.equal(published.kind, Kind.PUBLISHED);
  assert.equal(published.guestPort, 80);
  assert.equal(networkEvent({ kind: "unanswered", ...place }).kind, Kind.UNANSWERED);
});
