import assert from "node:assert/strict";
import { join } from "node:path";
import { trust } from "./trust.ts";

const CERTIFICATE = "-----BEGIN CERTIFICATE-----\nQQ==\n-----END CERTIFICATE-----\n";
const OTHER = CERTIFICATE.replace("QQ", "Qg");

Deno.test("a certificate is trusted beside those of the image, once, also where there are none", () => {
  const directory = Deno.makeTempDirSync({ prefix: "cloudlet-test-" });
  try {
    for (const known of [undefined, OTHER, OTHER.trimEnd()]) {
      const paths = { system: join(directory, "a/system"), own: join(directory, "b/own") };
      if (known !== undefined) Deno.writeTextFileSync(paths.system, known);
      for (let i = 0; i < 2; i++) {
        trust(CERTIFICATE, paths);
        for (const path of Object.values(paths)) {
          assert.equal(
            Deno.readTextFileSync(path),
            (known === undefined ? "" : OTHER) + CERTIFICATE,
          );
        }
      }
    }
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});

Deno.test("what is no certificate is refused", () => {
  for (const text of ["x", "-----BEGIN PRIVATE KEY-----\n", CERTIFICATE + "x".repeat(65_536)]) {
    assert.throws(() => trust(text), /no certificate/);
  }
});
