import assert from "node:assert/strict";
import { DEFAULT_HOST, formatReference, parseReference } from "./reference.ts";

const HEX = "0123456789abcdef".repeat(4);

Deno.test("names mean what docker users mean by them", () => {
  const full = (text: string) => formatReference(parseReference(text));
  for (
    const [text, expected] of [
      ["alpine", `${DEFAULT_HOST}/library/alpine:latest`],
      ["alpine:3", `${DEFAULT_HOST}/library/alpine:3`],
      ["me/tool:v1.2-rc_3", `${DEFAULT_HOST}/me/tool:v1.2-rc_3`],
      [`${DEFAULT_HOST}/alpine`, `${DEFAULT_HOST}/library/alpine:latest`],
      [`index.${DEFAULT_HOST}/me/tool`, `${DEFAULT_HOST}/me/tool:latest`],
      ["localhost/x", "localhost/x:latest"],
      ["localhost:5000/x:1", "localhost:5000/x:1"],
      ["127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest"],
      ["[::1]:5000/x", "[::1]:5000/x:latest"],
      ["registry.example/team/x", "registry.example/team/x:latest"],
      [`alpine@sha256:${HEX}`, `${DEFAULT_HOST}/library/alpine@sha256:${HEX}`],
      [`alpine:3@sha256:${HEX}`, `${DEFAULT_HOST}/library/alpine:3@sha256:${HEX}`],
    ] as const
  ) {
    assert.equal(full(text), expected);
    assert.equal(full(full(text)), expected, "the full form means the same");
  }
});

Deno.test("images on the disk are found from the directory that is given", () => {
  assert.deepEqual(parseReference("oci:images:a/b:1", "/base"), {
    kind: "oci",
    path: "/base/images",
    image: "a/b:1",
  });
  assert.deepEqual(parseReference("docker-archive:/x.tar", "/base"), {
    kind: "docker-archive",
    path: "/x.tar",
    image: undefined,
  });
});

for (
  const text of [
    ...["", ":", "/", "x/", "/x", "UPPER", "a//b", "a..b", "x:", "x:-tag", `x:${"t".repeat(129)}`],
    ...[
      "x@",
      "x@sha256:12",
      `x@md5:${HEX}`,
      "x y",
      "x\0",
      "host:port/x",
      "a:1/b/../c",
      "-host.x/y",
    ],
    ...["1.2.3.4.5/x", "256.1.1.1/x", "0x100000000.1/x", "host:99999/x", "[1::2::3]:1/x"],
    ...["oci:", "docker-archive:", "oci:dir:", "http://host/x", `${"n".repeat(300)}`],
  ]
) {
  Deno.test(`${JSON.stringify(text).slice(0, 40)} is no image`, () => {
    assert.throws(() => parseReference(text), { code: "invalid-input", remedy: /NAME\[:TAG\]/ });
  });
}
