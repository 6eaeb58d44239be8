import assert from "node:assert/strict";
import { networkLine } from "./network_line.ts";

Deno.test("a denial tells what would allow it, when something would", () => {
  const denied = { kind: "denied", asked: "tcp", floor: false } as const;
  const line = (more: object) => networkLine({ ...denied, ...more });
  assert.equal(
    line({ name: "api.example.com", address: "203.0.113.7", port: 443 }),
    "denied api.example.com:443; allow it with --allow api.example.com:443",
  );
  assert.equal(
    line({ address: "203.0.113.7", port: 53, asked: "udp" }),
    "denied 203.0.113.7:53/udp; allow it with --allow 203.0.113.7:53/udp",
  );
  assert.match(line({ name: "a.example", asked: "name" }), /--allow a\.example$/);
  assert.match(line({ name: "host", port: 80 }), /--allow host:80$/);
  assert.doesNotMatch(line({ address: "203.0.113.7", port: 443, rule: "x" }), /--allow/);
  assert.doesNotMatch(line({ address: "203.0.113.7", port: 443, asked: "server-name" }), /--allow/);
  assert.match(
    line({ name: "a.example", address: "10.0.0.1", floor: true, asked: "name" }),
    /--allow 10\.0\.0\.1$/,
  );
});

Deno.test("no control character of a guest's names gets to the terminal", () => {
  const name = "\x1b[2Ja.example\r\n";
  const line = networkLine({ kind: "denied", asked: "name", name, floor: false });
  // deno-lint-ignore no-control-regex
  assert.doesNotMatch(line, /[\x00-\x1f]/);
});
