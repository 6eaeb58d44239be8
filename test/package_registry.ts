/**
 * A registry on loopback that speaks the parts of JSR's protocol that Deno uses: it takes what
 * `deno publish` uploads, and serves exactly that.
 *
 * Upload: POST /api/scopes/SCOPE/packages/NAME/versions/VERSION, a gzipped tar. Download:
 * /@SCOPE/NAME/meta.json, VERSION_meta.json with size and SHA-256 of each file, and the files
 * (https://jsr.io/docs/api).
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { gunzipSync } from "node:zlib";
import { sha256 } from "../base/store.ts";
import { openSource } from "../builder/archive/source.ts";
import { readTar } from "../builder/archive/tar.ts";

/** Such a registry, with one version of one package. */
export interface PackageRegistry extends AsyncDisposable {
  /** What JSR_URL has to be. */
  readonly url: string;
  /** The files that were uploaded, by path with a leading slash; empty before that. */
  readonly files: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;
  /** Paths of the files that were asked for since the last `forget`. */
  readonly asked: Set<string>;
}

/** Starts one. */
export function servePackages(): PackageRegistry {
  let files: ReadonlyMap<string, Uint8Array<ArrayBuffer>> = new Map();
  let base = "";
  let version = "";
  const asked = new Set<string>();
  const task = { id: crypto.randomUUID(), status: "success", error: null };

  async function manage(request: Request, pathname: string): Promise<Response> {
    const [, scope, name, wanted] =
      /^\/api\/scopes\/([^/]+)\/packages\/([^/]+)(?:\/versions\/(.+))?$/.exec(pathname) ?? [];
    if (wanted === undefined) return Response.json(name === undefined ? task : { scope, name });
    if (request.method !== "POST") {
      return Response.json({ code: "packageVersionNotFound", message: "no" }, { status: 404 });
    }
    files = unpack(new Uint8Array(await request.arrayBuffer()));
    base = `/@${scope}/${name}/`;
    version = wanted;
    return Response.json(task);
  }

  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    const { pathname } = new URL(request.url);
    if (pathname.startsWith("/api/")) return manage(request, pathname);
    if (pathname === `${base}meta.json`) {
      return Response.json({ latest: version, versions: { [version]: {} } });
    }
    if (pathname === `${base}${version}_meta.json`) return Response.json(metaOf(files));
    const path = pathname.slice(`${base}${version}`.length);
    const content = files.get(path);
    if (!pathname.startsWith(`${base}${version}/`) || content === undefined) {
      return new Response(null, { status: 404 });
    }
    asked.add(path);
    return new Response(content, { headers: { "content-type": typeOf(path) } });
  });
  return {
    url: `http://127.0.0.1:${server.addr.port}/`,
    get files() {
      return files;
    },
    asked,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}

function unpack(body: Uint8Array): Map<string, Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(gunzipSync(Buffer.from(body)));
  using source = openSource({ kind: "bytes", bytes }, "the upload");
  const members = [...readTar(source)].filter(({ type }) => type === "file");
  return new Map(members.map(({ name, offset, size }) => [
    `/${name.replace(/^\.?\//, "")}`,
    bytes.slice(offset, offset + size),
  ]));
}

function typeOf(path: string): string {
  if (path.endsWith(".ts")) return "text/typescript";
  if (/\.c?js$/.test(path)) return "text/javascript";
  return path.endsWith(".json") ? "application/json" : "text/plain";
}

function metaOf(files: ReadonlyMap<string, Uint8Array>): unknown {
  const manifest = Object.fromEntries([...files].map(([path, content]) => [
    path,
    { size: content.length, checksum: `sha256-${sha256(content)}` },
  ]));
  const config = JSON.parse(new TextDecoder().decode(files.get("/deno.json")));
  return { manifest, exports: config.exports };
}
