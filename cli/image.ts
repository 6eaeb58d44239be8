/**
 * `cloudlet image build|pull|ls|inspect|rm`
 *
 * @module
 */
import { buildCommand, buildRouteMap } from "@stricli/core";
import { checkUnneeded } from "../base/cache/state_leases.ts";
import { cacheDir } from "../base/dirs.ts";
import { CloudletError } from "../base/errors.ts";
import { loadSettings } from "../base/settings.ts";
import { DamagedEntry } from "../base/store.ts";
import { imageDeclaration, imageNames } from "../builder/image/declarations.ts";
import {
  DEFAULT_SUITE,
  joinLanguage,
  LANGUAGE_VERSIONS,
  splitLanguage,
} from "../builder/image/versions.ts";
import { findImage, type Image, imageStore, openImage } from "../builder/image/image.ts";
import { formatReference, parseReference } from "../builder/oci/reference.ts";
import { withBuilt } from "./built.ts";
import { writeLine } from "./output.ts";
import { formatBytes } from "./progress.ts";
import { formatTable } from "./table.ts";

const SHORT = 12; // hex digits of a key that are shown; enough to tell a thousand images apart

/** An entry of the store: an image, or why it is none. */
type Entry =
  & { readonly key: string }
  & (
    | { readonly image: Image; readonly damage?: undefined }
    | { readonly image?: undefined; readonly damage: DamagedEntry }
  );

async function readEntry(key: string): Promise<Entry> {
  try {
    return { key, image: await openImage(key) };
  } catch (error) {
    if (error instanceof DamagedEntry) return { key, damage: error };
    throw error;
  }
}

async function readEntries(): Promise<Entry[]> {
  return await Promise.all((await imageStore().keys()).map(readEntry));
}

/**
 * The names of the images in the cache, each once.
 *
 * @param oci only of those that are OCI images
 */
export async function imageNamesInCache(oci: boolean): Promise<string[]> {
  const own = new Set(imageNames());
  const names = (await readEntries()).flatMap(({ image }) => image?.manifest.name ?? [])
    .filter((name) => !oci || !own.has(splitLanguage(name).name));
  return [...new Set(names)].sort();
}

/** The key that `reference` means: a name, a reference, a key or the beginning of a key. */
async function resolveKey(reference: string): Promise<string> {
  const { name: language, version } = splitLanguage(reference);
  // A digest of an OCI image named python is no version of the language.
  if (imageNames().includes(language) && !version?.includes(":")) {
    const { debian } = await loadSettings();
    const image = await findImage(imageDeclaration(reference, [], debian.suite));
    if (image !== undefined) return image.key;
  } else if (/^[0-9a-f]{4,}$/.test(reference)) {
    const keys = (await imageStore().keys()).filter((key) => key.startsWith(reference));
    if (keys.length === 1) return keys[0]!;
    if (keys.length > 1) {
      throw new CloudletError(`Cannot tell which image ${reference} is: ${keys.length} begin so`, {
        code: "invalid-input",
        remedy: "give more digits of the key",
      });
    }
  }
  const name = formatReference(parseReference(reference));
  const named = (await readEntries()).filter(({ image }) => image?.manifest.name === name);
  if (named.length === 1) return named[0]!.key;
  if (named.length > 1) {
    throw new CloudletError(`Cannot tell which image ${name} is: there are ${named.length}`, {
      code: "invalid-input",
      remedy: "give the key of one, see `cloudlet image ls`",
    });
  }
  throw new CloudletError(`Cannot find the image "${reference}": it is not in the cache`, {
    code: "not-found",
    remedy: "see `cloudlet image ls`, or build it with `cloudlet image build NAME`",
  });
}

const reference = (brief: string) => ({ brief, parse: String, placeholder: "image" });

const build = buildCommand({
  docs: {
    brief: "Build a root image, or find it in the cache",
    fullDescription: `Images: ${imageNames().join(", ")}. Prints the path of the image.`,
  },
  parameters: {
    flags: {
      refresh: {
        kind: "boolean",
        brief: "ask the archive whether there are newer packages",
        default: false,
      },
    },
    positional: {
      kind: "array",
      parameter: { brief: "name of an image", parse: String, placeholder: "root-image" },
      minimum: 1,
    },
  },
  async func(flags: { refresh: boolean }, ...names: string[]) {
    await withBuilt(async (builder) => {
      for (const name of names) writeLine((await builder.image(name, flags)).path);
    });
  },
});

const pull = buildCommand({
  docs: {
    brief: "Pull an OCI image, and make it a root image",
    fullDescription:
      "Asks the registry what the name means now, fetches what the cache lacks, and " +
      "prints the path of the root image. Names are as docker users write them; oci:DIR and " +
      "docker-archive:FILE are images on the disk.",
  },
  parameters: {
    flags: {
      insecure: { kind: "boolean", brief: "the registry may speak http", default: false },
    },
    positional: {
      kind: "array",
      parameter: { ...reference("name of an OCI image"), placeholder: "oci-image" },
      minimum: 1,
    },
  },
  async func({ insecure }: { insecure: boolean }, ...names: string[]) {
    const plain = { language: "", pull: true, packages: [], files: [], run: [] };
    await withBuilt(async (builder) => {
      for (const from of names) {
        const request = { ...plain, from: formatReference(parseReference(from)), insecure };
        writeLine((await builder.rootImage(request, noChanges)).path);
      }
    });
  },
});

/** Nothing is run for an image as it is. */
const noChanges = () => Promise.reject(new Error("an image without commands runs none"));

/** Every version of every language, and where it comes from. */
async function listAvailable(json: boolean): Promise<void> {
  const suite = (await loadSettings()).debian.suite ?? DEFAULT_SUITE;
  const rows = Object.entries(LANGUAGE_VERSIONS).flatMap(([language, versions]) =>
    versions.length === 0
      ? [{ language, name: language, version: Deno.version.deno, from: "cloudlet's own Deno" }]
      : versions.map(({ version, suite, image }) => ({
        language,
        name: joinLanguage(language, version),
        version,
        from: suite === undefined ? `OCI image ${image}` : `Debian ${suite}`,
      }))
  );
  if (json) {
    for (const row of rows) writeLine(JSON.stringify(row));
    return;
  }
  const cells = rows.map(({ name, version, from }) => [name, version, from]);
  writeLine(await formatTable(["LANGUAGE", "VERSION", "FROM"], cells));
  writeLine(`\nWithout a version, a language is that of Debian ${suite}.`);
}

const ls = buildCommand({
  docs: { brief: "List the images in the cache, or the versions of languages that there are" },
  parameters: {
    flags: {
      json: { kind: "boolean", brief: "one JSON object a line", default: false },
      available: {
        kind: "boolean",
        brief: "list the versions of languages that there are, built or not",
        default: false,
        withNegated: false,
      },
    },
  },
  async func(flags: { json: boolean; available: boolean }) {
    if (flags.available) return await listAvailable(flags.json);
    const rows: { name: string; key: string; size: number; packages: number; built: string }[] = [];
    const damaged: { key: string; damaged: string }[] = [];
    for (const { key, image, damage } of await readEntries()) {
      if (damage !== undefined) {
        damaged.push({ key, damaged: damage.message });
        continue;
      }
      const { manifest, path } = image;
      const built = (await Deno.stat(path)).mtime?.toISOString() ?? "";
      const packages = manifest.packages.length;
      rows.push({ name: manifest.name, key, size: manifest.size, packages, built });
    }
    rows.sort((a, b) => (a.name + a.built < b.name + b.built ? -1 : 1));
    if (flags.json) {
      for (const row of [...rows, ...damaged]) writeLine(JSON.stringify(row));
      return;
    }
    const head = ["NAME", "KEY", "SIZE", "PACKAGES", "BUILT"];
    const cells = rows.map(({ name, key, size, packages, built }) => [
      name,
      key.slice(0, SHORT),
      formatBytes(size),
      packages,
      built.slice(0, 16),
    ]);
    for (const { key } of damaged) cells.push(["(damaged)", key.slice(0, SHORT), "", "", ""]);
    writeLine(await formatTable(head, cells));
  },
});

const inspect = buildCommand({
  docs: { brief: "Show what an image was made from, as JSON" },
  parameters: {
    positional: { kind: "tuple", parameters: [reference("name or key of an image")] },
  },
  async func(_flags: Record<never, never>, name: string) {
    const { key, path, manifest } = await openImage(await resolveKey(name));
    writeLine(JSON.stringify({ key, path, ...manifest }, undefined, 2));
  },
});

const rm = buildCommand({
  docs: { brief: "Remove images from the cache; running microVMs keep theirs" },
  parameters: {
    positional: {
      kind: "array",
      parameter: reference("name or key of an image"),
      minimum: 1,
    },
  },
  async func(_flags: Record<never, never>, ...names: string[]) {
    const keys = await Promise.all(names.map(resolveKey));
    checkUnneeded(cacheDir(), keys.map((key) => `images/${key}`));
    for (const key of keys) await imageStore().remove(key);
  },
});

/** The commands below `cloudlet image`. */
export const imageRoutes = buildRouteMap({
  routes: { build, pull, ls, inspect, rm },
  docs: { brief: "Build, pull, list and remove root images" },
});
