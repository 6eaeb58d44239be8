/**
 * Registries of packages on this host's loopback: an index of Python's (PEP 503), one of npm's and one of
 * cargo's (sparse). They note what they are asked for.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { type Files, tarball, wheel } from "./archives.ts";

/** See the module. */
export interface Registry extends AsyncDisposable {
  readonly port: number;
  /** Paths, in order. */
  readonly asked: string[];
}

type Route = (path: string) => Response | undefined;

/** A field of answers that shall break off. */
const CUT = "x-cut";

async function serve(route: (origin: string) => Route): Promise<Registry> {
  const asked: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url ?? "/", "http://registry");
    asked.push(pathname);
    const answer = route(`http://${request.headers.host}`)(decodeURIComponent(pathname)) ??
      new Response(null, { status: 404 });
    const body = new Uint8Array(await answer.arrayBuffer());
    const fields = Object.fromEntries(answer.headers);
    if (!answer.headers.has(CUT)) return void response.writeHead(answer.status, fields).end(body);
    response.writeHead(answer.status, { ...fields, "content-length": String(body.length + 1000) });
    response.write(body);
    setTimeout(() => response.destroy(), 50);
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const close = async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  };
  return { port: (server.address() as AddressInfo).port, asked, [Symbol.asyncDispose]: close };
}

const HOLDS = { "cache-control": "public, max-age=31536000, immutable" };
const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const page = (body: string) => new Response(body, { headers: { "content-type": "text/html" } });

/** A build backend of PEP 517 that needs nothing but a compiler: the project has it in itself. */
const BACKEND = `import os, subprocess, sysconfig, zipfile
NAME, VERSION = "fast", "1.0"
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    include = sysconfig.get_paths()["include"]
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-I", include, "fast.c", "-o", "fast" + suffix], check=True)
    tag = "py3-none-any"
    name = f"{NAME}-{VERSION}-{tag}.whl"
    info = f"{NAME}-{VERSION}.dist-info"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as z:
        z.write("fast" + suffix)
        z.writestr(info + "/METADATA", f"Metadata-Version: 2.1\\nName: {NAME}\\nVersion: {VERSION}\\n")
        z.writestr(info + "/WHEEL", f"Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: false\\nTag: {tag}\\n")
        z.writestr(info + "/RECORD", f"fast{suffix},,\\n{info}/METADATA,,\\n{info}/WHEEL,,\\n{info}/RECORD,,\\n")
    return name
def build_sdist(*_):
    raise NotImplementedError
`;
const FAST_C = `#include <Python.h>
static PyObject *answer(PyObject *self, PyObject *args) { return PyLong_FromLong(42); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, 0}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "fast", 0, -1, methods};
PyMODINIT_FUNC PyInit_fast(void) { return PyModule_Create(&module); }
`;
/** What it tries, it tells: a guest can do nothing about this host. */
const EVIL = `import os, socket, sys, time
def say(text):
    sys.stderr.write("evil: " + text + "\\n")
    sys.stderr.flush()
def build_wheel(*_):
    say("host file " + ("read" if os.path.exists(os.environ["TEST_HOST_FILE"]) else "missing"))
    try:
        socket.create_connection(("10.0.2.2", int(os.environ["TEST_OTHER_PORT"])), 5)
        say("called out")
    except OSError as error:
        say("refused " + type(error).__name__)
    children = []
    try:
        for _ in range(50):
            pid = os.fork()
            if pid == 0:
                time.sleep(1000)
                os._exit(0)
            children.append(pid)
    except OSError:
        pass
    say("forked")
    try:
        with open("/opt/dependencies/full", "wb") as file:
            while True:
                file.write(b"x" * (1 << 20))
    except OSError as error:
        say("full " + error.strerror)
    say("waits for ever")
    time.sleep(100000)
`;

const project = (
  name: string,
  backend: string,
  files: Files = {},
): Promise<Uint8Array<ArrayBuffer>> =>
  tarball({
    [`${name}-1.0/pyproject.toml`]:
      `[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n` +
      `[project]\nname = "${name}"\nversion = "1.0"\n`,
    [`${name}-1.0/PKG-INFO`]: `Metadata-Version: 2.1\nName: ${name}\nVersion: 1.0\n`,
    [`${name}-1.0/backend.py`]: backend,
    ...Object.fromEntries(
      Object.entries(files).map(([path, text]) => [`${name}-1.0/${path}`, text]),
    ),
  });

/** Projects with a page of their own: what goes wrong with each. */
const BROKEN: Readonly<Record<string, () => Response>> = {
  "wrong-hash": () =>
    page(
      `<a href="/files/wrong_hash-1.0-py3-none-any.whl#sha256=${
        "0".repeat(64)
      }">wrong_hash-1.0-py3-none-any.whl</a>`,
    ),
  "yanked": () =>
    page(
      `<a href="/files/yanked-1.0-py3-none-any.whl" data-yanked="broken">yanked-1.0-py3-none-any.whl</a>`,
    ),
  "limited": () => new Response("slow down", { status: 429, headers: { "retry-after": "1" } }),
  "locked": () =>
    new Response("who are you", { status: 401, headers: { "www-authenticate": "Basic" } }),
  "truncated": () =>
    page(`<a href="/truncated/truncated-1.0-py3-none-any.whl">truncated-1.0-py3-none-any.whl</a>`),
};

/** Python's: `colours` needs `shades`, `fast` is to be compiled, `evil` is that. */
export async function pipIndex(): Promise<Registry> {
  const colours = { "colours/__init__.py": "from shades import SHADE\nRED = 'red, ' + SHADE\n" };
  const files: Readonly<Record<string, Uint8Array<ArrayBuffer>>> = {
    "colours-1.2-py3-none-any.whl": wheel("colours", "1.2", colours, ["shades>=2"]),
    "wrong_hash-1.0-py3-none-any.whl": wheel("wrong_hash", "1.0", {}),
    "yanked-1.0-py3-none-any.whl": wheel("yanked", "1.0", {}),
    "shades-2.0-py3-none-any.whl": wheel("shades", "2.0", { "shades.py": "SHADE = 'dark'\n" }),
    "fast-1.0.tar.gz": await project("fast", BACKEND, { "fast.c": FAST_C }),
    "evil-1.0.tar.gz": await project("evil", EVIL),
  };
  return await serve(() => (path) => {
    const [, first, name = ""] = path.split("/");
    if (first === "files") {
      const file = files[name];
      return file && new Response(file, { headers: HOLDS });
    }
    if (first === "truncated") {
      return new Response(new Uint8Array(10), { headers: { ...HOLDS, [CUT]: "1" } });
    }
    if (first !== "simple") return undefined;
    const broken = BROKEN[name];
    if (broken !== undefined) return broken();
    const links = Object.entries(files).filter(([file]) => file.startsWith(`${name}-`))
      .map(([file, bytes]) => `<a href="/files/${file}#sha256=${sha256(bytes)}">${file}</a>\n`);
    return links.length === 0 ? undefined : page(links.join(""));
  });
}

const NATIVE_C = `#include <node_api.h>
static napi_value Answer(napi_env env, napi_callback_info info) {
  napi_value value;
  napi_create_int32(env, 42, &value);
  return value;
}
NAPI_MODULE_INIT() {
  napi_value value;
  napi_create_function(env, "answer", 6, Answer, NULL, &value);
  napi_set_named_property(env, exports, "answer", value);
  return exports;
}
`;

/** npm's: `scripted` has an install script and needs `leaf`, `native` is to be compiled. */
export async function npmRegistry(): Promise<Registry> {
  const packages: Readonly<Record<string, Files>> = {
    leaf: {
      "package.json": `{"name":"leaf","version":"1.1.0","main":"index.js"}`,
      "index.js": `module.exports = "leaf";`,
    },
    scripted: {
      "package.json": JSON.stringify({
        ...{
          name: "scripted",
          version: "2.0.0",
          main: "index.js",
          dependencies: { leaf: "^1.0.0" },
        },
        scripts: {
          postinstall: `node -e "require('fs').writeFileSync('made.json', '[\\"script\\"]')"`,
        },
      }),
      "index.js": `module.exports = require("./made.json")[0] + " and " + require("leaf");`,
    },
    native: {
      "package.json": `{"name":"native","version":"1.0.0","main":"index.js","gypfile":true}`,
      "binding.gyp": `{"targets":[{"target_name":"native","sources":["native.c"]}]}`,
      "native.c": NATIVE_C,
      "index.js": `module.exports = require("./build/Release/native.node");`,
    },
  };
  const archives = new Map(
    await Promise.all(
      Object.entries(packages).map(async ([name, files]) => {
        const below = Object.entries(files).map(([path, text]) => [`package/${path}`, text]);
        return [name, await tarball(Object.fromEntries(below))] as const;
      }),
    ),
  );
  return await serve((origin) => (path) => {
    const [, name = "", , file] = path.split("/");
    const archive = archives.get(name);
    if (archive === undefined) return undefined;
    if (file !== undefined) return new Response(archive, { headers: HOLDS });
    const manifest = JSON.parse(packages[name]!["package.json"]!);
    const { version } = manifest;
    const hash = createHash("sha512").update(archive).digest("base64");
    const dist = {
      tarball: `${origin}/${name}/-/${name}-${version}.tgz`,
      integrity: `sha512-${hash}`,
      shasum: createHash("sha1").update(archive).digest("hex"),
    };
    const scripts = "scripts" in manifest || "gypfile" in manifest;
    const full = { ...manifest, dist, ...(scripts && { hasInstallScript: true }) };
    return Response.json({ name, "dist-tags": { latest: version }, versions: { [version]: full } });
  });
}

/** Cargo's: `adder`, which needs `one`. */
export async function cargoRegistry(): Promise<Registry> {
  const crate = (name: string, lib: string, needs = "") =>
    tarball({
      [`${name}-0.1.0/Cargo.toml`]:
        `[package]\nname = "${name}"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\n${needs}`,
      [`${name}-0.1.0/src/lib.rs`]: lib,
    });
  const crates = new Map([
    ["one", await crate("one", "pub fn one() -> u32 { 1 }\n")],
    [
      "adder",
      await crate(
        "adder",
        "pub fn add(a: u32) -> u32 { a + one::one() }\n",
        `one = { version = "0.1", registry = "test" }\n`,
      ),
    ],
  ]);
  return await serve((origin) => (path) => {
    if (path === "/config.json") return Response.json({ dl: `${origin}/dl/{crate}` });
    const name = path.split("/").at(-1)!;
    const bytes = crates.get(name);
    if (bytes === undefined) return undefined;
    if (path.startsWith("/dl/")) return new Response(bytes, { headers: HOLDS });
    const deps = name === "adder"
      ? [{
        name: "one",
        req: "^0.1",
        features: [],
        optional: false,
        default_features: true,
        target: null,
        kind: "normal",
      }]
      : [];
    const line = { name, vers: "0.1.0", deps, cksum: sha256(bytes), features: {}, yanked: false };
    return new Response(`${JSON.stringify(line)}\n`, { headers: { etag: `"${sha256(bytes)}"` } });
  });
}
