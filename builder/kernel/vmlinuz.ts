/**
 * The ELF kernel inside a compressed one (bzImage): Linux Documentation/x86/boot.rst, fields
 * `payload_offset` and `payload_length`. A guest that is given the ELF file itself need not
 * decompress it at every boot.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import { CloudletError, messageOf } from "../../base/errors.ts";
import { boot_params, setup_header } from "../../ffi/uapi/bootparam.ts";
import { decompress, detectCompression } from "../archive/decompress.ts";
import { decodeX86, type PlainXz, withoutX86Filter } from "../archive/xz_x86.ts";

const HEADER = boot_params.offsets.hdr;
const BOOT_FLAG = 0xaa55;
const HDRS = 0x5372_6448; // "HdrS"
const MIN_VERSION = 0x0208; // boot protocol 2.08 (Linux 2.6.26): payload_offset
const SECTOR = 512;
const SIZE_BYTES = 4;
const MAX_KERNEL = 512 * 1024 * 1024; // bytes; Debian's has 50 MiB
const ELF_MAGIC = 0x7f45_4c46;

function refuse(name: string, why: string): CloudletError {
  return new CloudletError(`Cannot unpack the kernel ${name}: ${why}`, {
    code: "untrusted",
    remedy: "remove the file and let it be fetched again",
  });
}

/** The compressed kernel, and how large it will be. */
function payload(vmlinuz: Uint8Array, name: string): { packed: Uint8Array; size: number } {
  if (vmlinuz.length < HEADER + setup_header.size) throw refuse(name, "it is too short");
  const header = setup_header.decode(vmlinuz.subarray(HEADER));
  if (header.boot_flag !== BOOT_FLAG || header.header !== HDRS) {
    throw refuse(name, "it is no bzImage");
  }
  if (header.version < MIN_VERSION) throw refuse(name, "its boot protocol is older than 2.08");
  const setupSectors = header.setup_sects === 0 ? 4 : header.setup_sects; // "4 if it is 0"
  // "the offset from the beginning of the protected-mode code to the payload"
  const start = (setupSectors + 1) * SECTOR + header.payload_offset;
  const end = start + header.payload_length;
  if (header.payload_length <= SIZE_BYTES || end > vmlinuz.length) {
    throw refuse(name, "it is truncated");
  }
  // scripts/Makefile.lib, size_append: the size before compression, in little-endian order. Gzip's
  // own trailer ends with it (RFC 1952 2.3.1, ISIZE); for the other formats it is put behind.
  const size = new DataView(vmlinuz.buffer, vmlinuz.byteOffset).getUint32(end - SIZE_BYTES, true);
  const gzip = detectCompression(vmlinuz.subarray(start, end)) === "gzip";
  return { packed: vmlinuz.subarray(start, gzip ? end : end - SIZE_BYTES), size };
}

function streamOf(bytes: Uint8Array): ReadableStream<Uint8Array<ArrayBuffer>> {
  return new ReadableStream({
    start(controller) {
      controller.enqueue(bytes as Uint8Array<ArrayBuffer>);
      controller.close();
    },
  });
}

async function* unpackPayload(
  packed: Uint8Array,
  options: { readonly name: string; readonly limit: number },
): AsyncGenerator<Uint8Array> {
  const { name, limit } = options;
  const format = detectCompression(packed);
  if (format === "none") throw refuse(name, "it is packed in a way that is not known here");
  let plain: PlainXz | undefined;
  try {
    plain = format === "xz" ? withoutX86Filter(packed) : undefined;
  } catch (error) {
    throw refuse(name, messageOf(error));
  }
  if (plain === undefined) {
    yield* decompress(streamOf(packed), options);
    return;
  }
  const kernel = new Uint8Array(limit);
  let size = 0;
  for await (const chunk of decompress(streamOf(plain.stream), options)) {
    kernel.set(chunk, size);
    size += chunk.length;
  }
  const whole = kernel.subarray(0, size);
  decodeX86(whole);
  if (crc32(whole) !== plain.check) throw refuse(name, "its check sum is wrong");
  yield whole;
}

/**
 * Unpacks the ELF kernel of a bzImage, whatever it is packed with: gzip, xz, zstd or LZ4.
 *
 * @param name for messages
 * @returns the ELF file in pieces; it is whole when the generator ends without an error
 * @throws {CloudletError} `untrusted` when the file is damaged or no such kernel
 */
export async function* unpackVmlinux(
  vmlinuz: Uint8Array,
  name: string,
): AsyncGenerator<Uint8Array> {
  const { packed, size } = payload(vmlinuz, name);
  if (size > MAX_KERNEL) throw refuse(name, `it would be ${size} bytes`);
  let total = 0;
  for await (const chunk of unpackPayload(packed, { name, limit: size })) {
    if (total === 0) {
      const magic = chunk.length < 4
        ? 0
        : new DataView(chunk.buffer, chunk.byteOffset).getUint32(0);
      if (magic !== ELF_MAGIC) throw refuse(name, "there is no ELF file in it");
    }
    total += chunk.length;
    yield chunk;
  }
  if (total !== size) throw refuse(name, `${total} bytes came out in place of ${size}`);
}
