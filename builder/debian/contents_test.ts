/** A Contents index of this host's loopback. */
import assert from "node:assert/strict";
import { gzipSync } from "node:zlib";
import { silentProgress } from "../../base/progress.ts";
import { sha256 } from "../../base/store.ts";
import { ARCHITECTURE } from "../architecture.ts";
import { packagesWith } from "./contents.ts";
import type { OpenedSuite } from "./suite.ts";

const CONTENTS = `bin/sh                                  shells/dash
usr/bin/pg_config                       libdevel/libpq-dev,database/postgresql-common
usr/include/postgresql/internal/libpq-fe.h  libdevel/postgresql-server-dev-17
usr/include/postgresql/libpq-fe.h       libdevel/libpq-dev
usr/include/a.h.old                     x/other
usr/share/doc/libpq-fe.h                doc/never
usr/include/with space/a.h              libdevel/spaced-dev
`;

Deno.test("the package is found that has a file for developers, in the file that the release names", async () => {
  const cache = await Deno.makeTempDir();
  const packed = new Uint8Array(gzipSync(CONTENTS));
  const asked: string[] = [];
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    const { pathname } = new URL(request.url);
    asked.push(pathname);
    return pathname.endsWith(`Contents-${ARCHITECTURE}.gz`)
      ? new Response(packed)
      : new Response(null, { status: 404 });
  });
  const suite = (digest: string) =>
    ({
      source: {
        uri: `http://127.0.0.1:${server.addr.port}/debian/`,
        suite: "trixie",
        components: ["main", "contrib"],
      },
      release: {
        byHash: true,
        files: new Map([[`main/Contents-${ARCHITECTURE}.gz`, {
          size: packed.length,
          sha256: digest,
        }]]),
      },
    }) as unknown as OpenedSuite;
  const find = (digest: string, ...files: [name: string, ...paths: string[]][]) =>
    packagesWith(
      files.map(([name, ...paths]) => ({ name, paths })),
      [suite(digest)],
      { cache, maxAge: 0, progress: silentProgress, fetch: { retries: 0 } as never },
    );
  const digest = sha256(packed);
  const found = await find(
    digest,
    ["libpq-fe.h", "usr/include/libpq-fe.h", "usr/include/*/libpq-fe.h"],
    ["pg_config", "usr/bin/pg_config"],
    ["a.h", "usr/include/a.h"],
    ["b.h", "usr/include/b.h"],
  );
  assert.deepEqual(Object.fromEntries(found), {
    "libpq-fe.h": "libpq-dev",
    pg_config: "libpq-dev",
  });
  assert.match(asked[0]!, new RegExp(`by-hash/SHA256/${digest}$`));
  const before = asked.length;
  await find(digest, ["pg_config", "usr/bin/pg_config"]);
  assert.equal(asked.length, before, "it is fetched once");
  await assert.rejects(() => find("0".repeat(64), ["pg_config", "usr/bin/pg_config"]));
  await Deno.remove(cache, { recursive: true });
});
