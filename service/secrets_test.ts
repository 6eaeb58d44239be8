import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { Network_Access as Access, NetworkSchema } from "../proto/gen/vmmorchestrator/vmm_pb.ts";
import { networkOf, OWN_NETWORK } from "./network.ts";
import { secretOptions, secretsOf } from "./secrets.ts";

const VALUE = "sk-live-0123456789-0123456789-0123456789";
const asked = (name = "API_KEY", value = VALUE, hosts = ["api.example.com"]) => ({
  $typeName: "vmmorchestrator.NetworkSecret" as const,
  ...{ name, value, hosts },
});

Deno.test("each run has a placeholder of its own, as long as the value, and nothing of it", () => {
  const [first] = secretsOf([asked()]);
  const [second] = secretsOf([asked()]);
  assert.notEqual(first!.placeholder, second!.placeholder);
  assert.match(first!.placeholder, /^[A-Za-z0-9]+$/);
  assert.equal(first!.placeholder.length, VALUE.length);
  assert.equal(secretsOf([asked("A", "12345678")])[0]!.placeholder.length, 32);
});

Deno.test("a host of a secret is reached over TLS without a rule, and no other port of it", () => {
  const network = networkOf(
    create(NetworkSchema, { access: Access.LISTED, secrets: [asked()] }),
    OWN_NETWORK,
  );
  assert.deepEqual(network?.policy?.rules.map(({ action, text, port }) => [action, text, port]), [
    ["allow", "api.example.com:443", 443],
  ]);
  assert.equal(network?.secrets?.[0]?.value, VALUE);
  assert.throws(
    () =>
      networkOf(create(NetworkSchema, { access: Access.NONE, secrets: [asked()] }), OWN_NETWORK),
    /rules or secrets/,
  );
});

Deno.test("the program has the placeholder and the certificates; what has read them starts anew", () => {
  const secrets = secretsOf([asked()]);
  const env = { API_KEY: "mine", SSL_CERT_FILE: "/own" };
  const python = secretOptions({ secrets }, "python", { env, cold: false });
  assert.equal(python.env.API_KEY, secrets[0]!.placeholder);
  assert.equal(python.env.SSL_CERT_FILE, "/own");
  assert.match(python.env.REQUESTS_CA_BUNDLE ?? "", /^\/etc\/ssl\//);
  assert.equal(python.cold, false);
  assert.equal(secretOptions({ secrets }, "node", { env, cold: false }).cold, true);
  assert.deepEqual(secretOptions(undefined, "node", { env, cold: false }), { env, cold: false });
});

Deno.test("what cannot be a secret is refused without a word of its value", () => {
  for (
    const [secret, why] of [
      [asked("1A"), /no name of a variable/],
      [asked("A", "short"), /too short/],
      [asked("A", `${VALUE}\n`), /line break/],
      [asked("A", "x".repeat(8193)), /too long/],
      [asked("A", VALUE, []), /no host gets it/],
      [asked("A", VALUE, ["203.0.113.7"]), /no name of a host/],
      [asked("A", VALUE, ["api.example.com:443"]), /no name of a host/],
      [asked("A", VALUE, ["host"]), /no name of a host/],
    ] as const
  ) {
    assert.throws(() => secretsOf([secret]), (error: Error) => {
      assert.match(error.message, why);
      assert(!error.message.includes(VALUE));
      return true;
    });
  }
  assert.throws(() => secretsOf([asked(), asked()]), /two of the name/);
  assert.equal(secretsOf([asked("A", VALUE, ["*.example.com"])]).length, 1);
});
