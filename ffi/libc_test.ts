import assert from "node:assert/strict";
import { errnoName, SyscallError } from "./errno.ts";
import { OwnedFd } from "./fd.ts";
import { check, cString, ioctl, libc, retry } from "./libc.ts";
import { Mapping } from "./mapping.ts";
import { KVM_GET_API_VERSION } from "./uapi/kvm.ts";
import { MAP_ANONYMOUS, MAP_PRIVATE, O_CLOEXEC, O_RDONLY, PROT_READ } from "./uapi/mman.ts";

function isOpen(fd: number): boolean {
  try {
    return Deno.readLinkSync(`/proc/self/fd/${fd}`) === "/dev/zero";
  } catch {
    return false;
  }
}

function isMapped(address: bigint): boolean {
  return Deno.readTextFileSync("/proc/self/maps").includes(`${address.toString(16)}-`);
}

Deno.test("a failed call throws with its name and errno", () => {
  assert.throws(
    () => OwnedFd.open("/nonexistent/file", O_RDONLY),
    (error) =>
      error instanceof SyscallError && error.code === "ENOENT" && error.errno === 2 &&
      error.message.includes("/nonexistent/file"),
  );
  using file = OwnedFd.open("/dev/null", O_RDONLY | O_CLOEXEC);
  assert.throws(
    () => ioctl(file.fd, KVM_GET_API_VERSION),
    (error) =>
      error instanceof SyscallError && error.op === "KVM_GET_API_VERSION" &&
      error.code === "ENOTTY",
  );
  assert.throws(() => check("close", libc().close(-1)), /close failed: EBADF/);
});

Deno.test("errno names are those of the kernel", () => {
  assert.deepEqual(
    [1, 4, 11, 17, 22, 28, 38, 40, 95, 110].map(errnoName),
    [
      "EPERM",
      "EINTR",
      "EAGAIN",
      "EEXIST",
      "EINVAL",
      "ENOSPC",
      "ENOSYS",
      "ELOOP",
      "EOPNOTSUPP",
      "ETIMEDOUT",
    ],
  );
  assert.equal(errnoName(4000), "errno 4000");
});

Deno.test("a descriptor is closed once, and then refuses to be used", () => {
  const file = OwnedFd.open("/dev/zero", O_RDONLY | O_CLOEXEC);
  const bytes = new Uint8Array(8).fill(1);
  assert.equal(retry("read", () => libc().read(file.fd, bytes, 8n)), 8);
  assert.deepEqual(bytes, new Uint8Array(8));
  const fd = file.fd;
  assert.ok(isOpen(fd));
  file[Symbol.dispose]();
  file[Symbol.dispose]();
  assert.ok(!isOpen(fd));
  assert.ok(file.closed);
  assert.throws(() => file.fd, TypeError);
});

Deno.test("a disposed mapping is gone, and its views throw in place of touching memory", () => {
  const mapping = Mapping.create({
    length: 1 << 20,
    prot: PROT_READ,
    flags: MAP_PRIVATE | MAP_ANONYMOUS,
  });
  const view = new DataView(mapping.buffer);
  assert.equal(view.getUint32(4096), 0);
  assert.ok(isMapped(mapping.address));
  mapping[Symbol.dispose]();
  mapping[Symbol.dispose]();
  assert.ok(!isMapped(mapping.address));
  assert.throws(() => view.getUint8(0), TypeError);
  assert.throws(() => mapping.buffer, TypeError);
});

Deno.test("a mapping that the kernel refuses is an error", () => {
  assert.throws(
    () => Mapping.create({ length: 0, prot: PROT_READ, flags: MAP_PRIVATE | MAP_ANONYMOUS }),
    (error) => error instanceof SyscallError && error.op === "mmap" && error.code === "EINVAL",
  );
});

Deno.test("a string with a NUL does not go to C", () => {
  assert.throws(() => cString("a\0b"), TypeError);
  assert.deepEqual(cString("ü"), new Uint8Array([0xc3, 0xbc, 0]));
});
