/**
 * What tells one microVM from the others that were restored from the same snapshot.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import { HostsFile } from "./hosts_file.ts";
import { checked, cString, libc } from "./libc.ts";

const MIN_ENTROPY = 32;
const MAX_ENTROPY = 512; // bytes; the kernel's pool has a state of 256 bits
const MAX_HOSTNAME = 64; // bytes: __NEW_UTS_LEN of include/uapi/linux/utsname.h
const MAX_VM_ID = 128;

const CLOCK_REALTIME = 0;

// include/uapi/linux/random.h: _IOW('R', 0x03, int[2]) and _IO('R', 0x07)
const RNDADDENTROPY = 0x40085203n;
const RNDRESEEDCRNG = 0x5207n;

/** What the host tells a restored microVM. */
export interface NewIdentity {
  /** Random bytes that no other microVM gets. */
  readonly entropy: Uint8Array;
  /** Nanoseconds since 1970. */
  readonly clockNs: bigint;
  /** Nanoseconds by which to put the clock forward; 0 to set it to {@linkcode clockNs}. */
  readonly clockStepNs: bigint;
  /** Name of the microVM. */
  readonly vmId: string;
  /** Host name; "" leaves it as it is. */
  readonly hostname: string;
}

/** Who this microVM is. */
export class GuestIdentity {
  #vmId = "";
  readonly #hosts = new HostsFile();

  /** As the host said last; "" before it did. */
  get vmId(): string {
    return this.#vmId;
  }

  /**
   * Takes another identity: random numbers, clock and names.
   *
   * @param untouched whether no program has run since the last call
   * @throws {CloudletError} `invalid-input` for what is out of bounds, `guest` when the kernel refuses
   */
  assume(identity: NewIdentity, untouched: boolean): void {
    const { entropy, clockNs, clockStepNs, vmId, hostname } = identity;
    const refuse = (why: string) =>
      new CloudletError(`Cannot resume: ${why}`, { code: "invalid-input" });
    if (entropy.length < MIN_ENTROPY || entropy.length > MAX_ENTROPY) {
      throw refuse(`the entropy must have ${MIN_ENTROPY} to ${MAX_ENTROPY} bytes`);
    }
    if (clockNs <= 0n || clockNs >= 1n << 63n) throw refuse("the clock is out of range");
    if (vmId.length > MAX_VM_ID) throw refuse(`the id is longer than ${MAX_VM_ID} characters`);
    if (!/^[A-Za-z0-9.-]*$/.test(hostname) || hostname.length > MAX_HOSTNAME) {
      throw refuse(`the host name is not up to ${MAX_HOSTNAME} of A-Z a-z 0-9 . -`);
    }
    addEntropy(entropy);
    if (clockStepNs === 0n) setClock(clockNs);
    else stepClock(clockStepNs);
    if (hostname !== "") {
      checked(libc().sethostname(cString(hostname), BigInt(hostname.length)), "set the host name");
    }
    // Without a name as well: what takes long is done before a snapshot then.
    this.#hosts.name(hostname || Deno.hostname(), untouched);
    this.#vmId = vmId;
  }
}

const O_WRONLY_CLOEXEC = 0o2000001;

let pool: number | undefined;

/** The random device; it stays open, since to open it takes milliseconds where a kernel is emulated. */
function randomPool(): number {
  return pool ??= checked(
    libc().open(cString("/dev/urandom"), O_WRONLY_CLOEXEC),
    "open /dev/urandom",
  );
}

/** Credits the bytes to the kernel's random pool and makes it use them at once (random(4)). */
function addEntropy(entropy: Uint8Array): void {
  // struct rand_pool_info { int entropy_count (bits); int buf_size (bytes); __u32 buf[]; }
  const info = new Uint8Array(new ArrayBuffer(8 + entropy.length));
  const view = new DataView(info.buffer);
  view.setInt32(0, entropy.length * 8, true);
  view.setInt32(4, entropy.length, true);
  info.set(entropy, 8);
  checked(libc().ioctl(randomPool(), RNDADDENTROPY, info), "add entropy");
  checked(libc().ioctl(randomPool(), RNDRESEEDCRNG, null), "reseed the random numbers");
}

// include/uapi/linux/timex.h: ADJ_SETOFFSET | ADJ_NANO, and where struct timex has modes and time
const ADJ_SETOFFSET_NANO = 0x2100;
const TIMEX_BYTES = 208;
const TIMEX_TIME = 72;
const SECOND = 1_000_000_000n;

/** Puts the clock forward; adjtimex(2) takes the nanoseconds as a positive number. */
function stepClock(ns: bigint): void {
  const timex = new Uint8Array(new ArrayBuffer(TIMEX_BYTES));
  const view = new DataView(timex.buffer);
  const nanos = ((ns % SECOND) + SECOND) % SECOND;
  view.setUint32(0, ADJ_SETOFFSET_NANO, true);
  view.setBigInt64(TIMEX_TIME, (ns - nanos) / SECOND, true);
  view.setBigInt64(TIMEX_TIME + 8, nanos, true);
  checked(libc().adjtimex(timex), "put the clock right");
}

function setClock(ns: bigint): void {
  const timespec = new BigInt64Array([ns / 1_000_000_000n, ns % 1_000_000_000n]);
  checked(
    libc().clock_settime(CLOCK_REALTIME, new Uint8Array(timespec.buffer)),
    "set the clock",
  );
}
