/**
 * Block device: virtio 1.2, section 5.2, over a file or block device of the host.
 *
 * @module
 */
import { EINTR } from "../../../ffi/errno.ts";
import { OwnedFd } from "../../../ffi/fd.ts";
import { check, errno, libc, retry } from "../../../ffi/libc.ts";
import { O_CLOEXEC, O_RDONLY, O_RDWR } from "../../../ffi/uapi/mman.ts";
import { CloudletError, messageOf } from "../../../base/errors.ts";
import { RateLimit } from "../../../base/token_bucket.ts";
import type { Device, DeviceHost, DeviceState } from "../../virtio/device.ts";
import { Feature } from "../../virtio/mmio.ts";
import type { VirtQueue } from "../../virtio/queue.ts";
import { RequestQueueDevice } from "../../virtio/request_queue.ts";
import { IoVector } from "../../virtio/iovec.ts";

const VIRTIO_ID_BLOCK = 2;
// 5.2.3
const VIRTIO_BLK_F_SEG_MAX = 2n;
const VIRTIO_BLK_F_RO = 5n;
const VIRTIO_BLK_F_BLK_SIZE = 6n;
const VIRTIO_BLK_F_FLUSH = 9n;
const VIRTIO_BLK_F_DISCARD = 13n;
const VIRTIO_BLK_F_WRITE_ZEROES = 14n;

const QUEUE_SIZE = 128;
const SECTOR = 512;
const BLOCK = 4096;

// 5.2.6, struct virtio_blk_req: le32 type, le32 reserved, le64 sector, u8 data[], u8 status.
const HEADER_BYTES = 16;
const STATUS_BYTES = 1;
const Type = { IN: 0, OUT: 1, FLUSH: 4, GET_ID: 8, DISCARD: 11, WRITE_ZEROES: 13 } as const;
const VIRTIO_BLK_S_OK = 0;
const VIRTIO_BLK_S_IOERR = 1;
const VIRTIO_BLK_S_UNSUPP = 2;
const ID_BYTES = 20; // 5.2.6: "a NUL-padded ASCII string up to 20 bytes"
// struct virtio_blk_discard_write_zeroes: le64 sector, le32 num_sectors, le32 flags.
const RANGE_BYTES = 16;
const MAX_RANGES = 32;
const MAX_RANGE_SECTORS = 1 << 22; // 2 GiB

// fallocate(2)
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

/** What the device is made from. */
export interface BlkOptions {
  /** A file whose size is a multiple of 512, or a block device. */
  readonly path: string;
  /** Whether the guest may only read. */
  readonly readOnly?: boolean;
  /** What the guest sees as the serial number: up to 20 ASCII characters. */
  readonly id?: string;
  /** Bytes a second that are read, and that are written, at most; no limit when absent. */
  readonly bandwidth?: number;
}

/** A disk. */
export class BlkDevice extends RequestQueueDevice implements Device {
  readonly name = "blk";
  readonly deviceId = VIRTIO_ID_BLOCK;
  readonly features: bigint;
  readonly queueSizes: readonly number[] = [QUEUE_SIZE];
  readonly config: Uint8Array = new Uint8Array(60);
  readonly #file: OwnedFd;
  readonly #sectors: number;
  readonly #readOnly: boolean;
  readonly #id = new Uint8Array(ID_BYTES);
  readonly #vector: IoVector;
  readonly #header = new Uint8Array(HEADER_BYTES);
  readonly #headerView = new DataView(this.#header.buffer);
  /** By {@linkcode Type}: what is read, and what is written. */
  readonly #limits: ReadonlyMap<number, RateLimit>;
  readonly #ranges = new Uint8Array(RANGE_BYTES * MAX_RANGES);

  /**
   * @param host what the device works with
   * @param options the file
   * @throws {SyscallError} when the file cannot be opened
   * @throws {CloudletError} `invalid-input` when its size will not do
   */
  constructor(host: DeviceHost, options: BlkOptions) {
    super(host);
    this.#readOnly = options.readOnly ?? false;
    this.#vector = new IoVector(host.memory);
    this.#limits = new Map([Type.IN, Type.OUT].map((type) => {
      const limit = new RateLimit(() => performance.now(), BLOCK);
      limit.rate = options.bandwidth;
      return [type, limit];
    }));
    new TextEncoder().encodeInto(options.id ?? "cloudlet", this.#id);
    using stack = new DisposableStack();
    const flags = (this.#readOnly ? O_RDONLY : O_RDWR) | O_CLOEXEC;
    this.#file = stack.use(OwnedFd.open(options.path, flags));
    const size = check("lseek", libc().lseek(this.#file.fd, 0n, 2)); // SEEK_END: devices too
    if (size === 0 || size % SECTOR !== 0) {
      throw new CloudletError(
        `Cannot use ${options.path} as a disk: its size of ${size} bytes is no multiple of ${SECTOR}`,
        { code: "invalid-input", remedy: `make its size a multiple of ${BLOCK} with truncate -s` },
      );
    }
    this.#sectors = size / SECTOR;
    this.features = this.#offer();
    this.#fillConfig(size % BLOCK === 0 ? BLOCK : SECTOR);
    stack.move();
  }

  #offer(): bigint {
    const features = 1n << Feature.VERSION_1 | 1n << Feature.EVENT_IDX |
      1n << VIRTIO_BLK_F_SEG_MAX | 1n << VIRTIO_BLK_F_BLK_SIZE | 1n << VIRTIO_BLK_F_FLUSH;
    if (this.#readOnly) return features | 1n << VIRTIO_BLK_F_RO;
    return features | 1n << VIRTIO_BLK_F_DISCARD | 1n << VIRTIO_BLK_F_WRITE_ZEROES;
  }

  #fillConfig(blockSize: number): void {
    // 5.2.4, struct virtio_blk_config
    const view = new DataView(this.config.buffer);
    view.setBigUint64(0, BigInt(this.#sectors), true); // capacity
    view.setUint32(12, QUEUE_SIZE - 2, true); // seg_max: header and status take one each
    view.setUint32(20, blockSize, true); // blk_size
    if (this.#readOnly) return;
    view.setUint32(36, MAX_RANGE_SECTORS, true); // max_discard_sectors
    view.setUint32(40, MAX_RANGES, true); // max_discard_seg
    view.setUint32(44, blockSize / SECTOR, true); // discard_sector_alignment
    view.setUint32(48, MAX_RANGE_SECTORS, true); // max_write_zeroes_sectors
    view.setUint32(52, MAX_RANGES, true); // max_write_zeroes_seg
    view.setUint8(56, 1); // write_zeroes_may_unmap
  }

  protected override holdOff(queue: VirtQueue): number {
    if (queue.read(this.#header) < HEADER_BYTES) return 0;
    return this.#limits.get(this.#headerView.getUint32(0, true))?.wait ?? 0;
  }

  protected override answer(queue: VirtQueue): number {
    if (queue.read(this.#header) < HEADER_BYTES || queue.writableBytes < STATUS_BYTES) {
      queue.badChains++;
      return 0;
    }
    const room = queue.writableBytes - STATUS_BYTES; // 2.7.4: the status is the last byte
    let status: number = VIRTIO_BLK_S_OK;
    let written = 0;
    try {
      const type = this.#headerView.getUint32(0, true);
      const sector = this.#headerView.getUint32(12, true) * 0x1_0000_0000 +
        this.#headerView.getUint32(8, true);
      switch (type) {
        case Type.IN:
          status = this.#transfer(queue, sector, room, false);
          if (status === VIRTIO_BLK_S_OK) written = room;
          break;
        case Type.OUT:
          status = this.#transfer(queue, sector, queue.readableBytes - HEADER_BYTES, true);
          break;
        case Type.FLUSH:
          retry("fdatasync", () => libc().fdatasync(this.#file.fd));
          break;
        case Type.GET_ID:
          if (room >= ID_BYTES) written = queue.write(this.#id);
          else status = VIRTIO_BLK_S_IOERR;
          break;
        case Type.DISCARD:
        case Type.WRITE_ZEROES:
          status = this.#zero(queue);
          break;
        default:
          status = VIRTIO_BLK_S_UNSUPP;
      }
    } catch (error) { // the host's file system: full, or a medium error
      this.host.warn(`Cannot serve a request of the disk: ${messageOf(error)}`);
      status = VIRTIO_BLK_S_IOERR;
      written = 0;
    }
    queue.write(Uint8Array.of(status), room);
    // 2.7.8.2: the length is of bytes "from the beginning"; the status counts when all before does.
    return written === room ? room + STATUS_BYTES : written;
  }

  #inside(sector: number, sectors: number): boolean {
    return sector + sectors <= this.#sectors;
  }

  #transfer(queue: VirtQueue, sector: number, length: number, toDisk: boolean): number {
    if (length % SECTOR !== 0 || !this.#inside(sector, length / SECTOR)) return VIRTIO_BLK_S_IOERR;
    if (toDisk && this.#readOnly) return VIRTIO_BLK_S_IOERR;
    const vector = this.#vector;
    const { preadv, pwritev } = libc();
    for (let done = 0; done < length;) {
      if (toDisk) vector.readable(queue, HEADER_BYTES + done, length - done);
      else vector.writable(queue, done, length - done);
      const transfer = toDisk ? pwritev : preadv;
      const offset = BigInt(sector * SECTOR + done);
      const count = Number(transfer(this.#file.fd, vector.array, vector.count, offset));
      if (count < 0 && errno() === EINTR) continue;
      if (count <= 0) {
        const what = toDisk ? "writing" : "reading";
        this.host.warn(`Cannot go on ${what} the disk at sector ${sector}: errno ${errno()}`);
        return VIRTIO_BLK_S_IOERR;
      }
      done += count;
    }
    this.#limits.get(toDisk ? Type.OUT : Type.IN)?.passed(length);
    return VIRTIO_BLK_S_OK;
  }

  #zero(queue: VirtQueue): number {
    if (this.#readOnly) return VIRTIO_BLK_S_IOERR;
    const length = queue.read(this.#ranges, HEADER_BYTES);
    if (length !== queue.readableBytes - HEADER_BYTES || length % RANGE_BYTES !== 0) {
      return VIRTIO_BLK_S_UNSUPP;
    }
    const view = new DataView(this.#ranges.buffer);
    for (let at = 0; at < length; at += RANGE_BYTES) {
      const sector = view.getUint32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true);
      const sectors = view.getUint32(at + 8, true);
      if (sectors > MAX_RANGE_SECTORS || !this.#inside(sector, sectors)) return VIRTIO_BLK_S_IOERR;
      if (sectors === 0) continue;
      const mode = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE; // reads as zeros either way
      retry(
        "fallocate",
        () =>
          libc().fallocate(
            this.#file.fd,
            mode,
            BigInt(sector) * BigInt(SECTOR),
            BigInt(sectors) * BigInt(SECTOR),
          ),
      );
    }
    return VIRTIO_BLK_S_OK;
  }

  save(): DeviceState {
    return { sectors: this.#sectors, readOnly: this.#readOnly };
  }

  restore(state: DeviceState): void {
    const saved = state as { sectors: number; readOnly: boolean } | null | undefined;
    if (saved?.sectors !== this.#sectors || saved.readOnly !== this.#readOnly) {
      throw new RangeError("the disk of the snapshot had another size or mode");
    }
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}
