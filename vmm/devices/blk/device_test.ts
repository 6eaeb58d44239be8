import assert from "node:assert/strict";
import { testCompliance } from "../../virtio/compliance.ts";
import { VIRTIO_MMIO } from "../../virtio/mmio.ts";
import { Bench, Driver, FakeMemory, type Segment } from "../../virtio/testing.ts";
import { BlkDevice, type BlkOptions } from "./device.ts";

const SIZE = 64 * 1024;
const [IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES] = [0, 1, 4, 8, 11, 13];
const [OK, IOERR, UNSUPP] = [0, 1, 2];

const compliancePath = Deno.makeTempFileSync();
Deno.truncateSync(compliancePath, SIZE);
testCompliance({ name: "blk", make: (host) => new BlkDevice(host, { path: compliancePath }) });
Deno.test.afterAll(() => Deno.removeSync(compliancePath));

class Disk implements Disposable {
  readonly path = Deno.makeTempFileSync();
  readonly content = new Uint8Array(SIZE).map((_, i) => (i * 7 + (i >> 9)) & 0xff);
  readonly bench: Bench;
  readonly driver: Driver;

  constructor(options: Partial<BlkOptions> = {}) {
    Deno.writeFileSync(this.path, this.content);
    this.bench = new Bench(
      new FakeMemory(),
      (host) => new BlkDevice(host, { path: this.path, ...options }),
    );
    this.driver = new Driver(this.bench).start();
  }

  request(type: number, sector: number, data: readonly Segment[] = []): {
    status: number | undefined;
    length: number | undefined;
  } {
    const { driver } = this;
    const header = new Uint8Array(16);
    const view = new DataView(header.buffer);
    view.setUint32(0, type, true);
    view.setBigUint64(8, BigInt(sector), true);
    const status = driver.room(1);
    this.bench.memory.bytes[status.address] = 0xee;
    const chain = [driver.place(header), ...data, status];
    driver.queues[0]!.add(chain);
    driver.kick(0);
    const [used] = driver.queues[0]!.collect();
    this.bench.memory.checkGuards();
    return { status: driver.bytesOf(status)[0], length: used?.length };
  }

  ranges(...ranges: [sector: number, sectors: number][]): Segment {
    const bytes = new Uint8Array(16 * ranges.length);
    const view = new DataView(bytes.buffer);
    ranges.forEach(([sector, sectors], i) => {
      view.setBigUint64(16 * i, BigInt(sector), true);
      view.setUint32(16 * i + 8, sectors, true);
    });
    return this.driver.place(bytes);
  }

  get file(): Uint8Array {
    return Deno.readFileSync(this.path);
  }

  [Symbol.dispose](): void {
    this.bench[Symbol.dispose]();
    Deno.removeSync(this.path);
  }
}

Deno.test("blk reads what is in the file, in several buffers", () => {
  using disk = new Disk();
  const rooms = [disk.driver.room(100), disk.driver.room(924), disk.driver.room(1024)];
  const { status, length } = disk.request(IN, 5, rooms);
  assert.deepEqual([status, length], [OK, 2049]);
  const read = rooms.flatMap((room) => [...disk.driver.bytesOf(room)]);
  assert.deepEqual(read, [...disk.content.subarray(5 * 512, 9 * 512)]);
});

Deno.test("blk writes where the guest says and nowhere else", () => {
  using disk = new Disk();
  const data = crypto.getRandomValues(new Uint8Array(1536));
  const parts = [disk.driver.place(data.subarray(0, 1000)), disk.driver.place(data.subarray(1000))];
  assert.deepEqual(disk.request(OUT, 3, parts), { status: OK, length: 1 });
  assert.deepEqual(disk.request(FLUSH, 0), { status: OK, length: 1 });
  const expected = disk.content.slice();
  expected.set(data, 3 * 512);
  assert.deepEqual(disk.file, expected);
});

Deno.test("blk refuses what is beyond its end or not whole sectors", () => {
  using disk = new Disk();
  const { driver } = disk;
  assert.equal(disk.request(IN, SIZE / 512, [driver.room(512)]).status, IOERR);
  assert.equal(disk.request(IN, SIZE / 512 - 1, [driver.room(1024)]).status, IOERR);
  assert.equal(disk.request(IN, 2 ** 50, [driver.room(512)]).status, IOERR);
  assert.equal(disk.request(IN, 0, [driver.room(511)]).status, IOERR);
  assert.equal(disk.request(OUT, SIZE / 512, [driver.place(new Uint8Array(512))]).status, IOERR);
  assert.deepEqual(disk.file, disk.content);
});

Deno.test("blk with readOnly refuses every change", () => {
  using disk = new Disk({ readOnly: true });
  assert.equal(disk.request(OUT, 0, [disk.driver.place(new Uint8Array(512))]).status, IOERR);
  assert.equal(disk.request(WRITE_ZEROES, 0, [disk.ranges([0, 8])]).status, IOERR);
  assert.equal(disk.request(IN, 0, [disk.driver.room(512)]).status, OK);
  assert.deepEqual(disk.file, disk.content);
  assert.equal(disk.driver.offered >> 5n & 1n, 1n); // VIRTIO_BLK_F_RO
});

Deno.test("blk makes holes that read as zeros", () => {
  using disk = new Disk();
  assert.equal(disk.request(DISCARD, 0, [disk.ranges([8, 8], [24, 8])]).status, OK);
  assert.equal(disk.request(WRITE_ZEROES, 0, [disk.ranges([40, 1])]).status, OK);
  const expected = disk.content.slice();
  for (const [from, count] of [[8, 8], [24, 8], [40, 1]] as const) {
    expected.fill(0, from * 512, (from + count) * 512);
  }
  assert.deepEqual(disk.file, expected);
  assert.equal(disk.request(DISCARD, 0, [disk.ranges([120, 9])]).status, IOERR);
});

Deno.test("blk tells its size and its id, and that it does not know a request", () => {
  using disk = new Disk({ id: "scratch" });
  assert.equal(disk.driver.read(VIRTIO_MMIO.CONFIG), SIZE / 512);
  const room = disk.driver.room(20);
  assert.deepEqual(disk.request(GET_ID, 0, [room]), { status: OK, length: 21 });
  assert.equal(new TextDecoder().decode(disk.driver.bytesOf(room)).replace(/\0+$/, ""), "scratch");
  assert.equal(disk.request(99, 0).status, UNSUPP);
});

Deno.test("blk gives a request without header or status back untouched", () => {
  using disk = new Disk();
  const { driver } = disk;
  driver.queues[0]!.add([driver.place(new Uint8Array(15)), driver.room(1)]);
  driver.queues[0]!.add([driver.place(new Uint8Array(16))]);
  driver.kick(0);
  assert.deepEqual(driver.queues[0]!.collect().map(({ length }) => length), [0, 0]);
});

Deno.test("blk refuses a file that is no disk", () => {
  const path = Deno.makeTempFileSync();
  try {
    for (const size of [0, 511, 513]) {
      Deno.truncateSync(path, size);
      assert.throws(
        () => new Bench(new FakeMemory(), (host) => new BlkDevice(host, { path })),
        /multiple of 512/,
      );
    }
  } finally {
    Deno.removeSync(path);
  }
});

Deno.test("blk holds back what comes too early, and a reset forgets what waits", () => {
  const rate = 100_000;
  using disk = new Disk({ bandwidth: rate });
  const { driver, bench } = disk;
  const block = new Uint8Array(4096).fill(0x5a);
  const write = (sector: number) => {
    const header = new Uint8Array(16);
    const view = new DataView(header.buffer);
    view.setUint32(0, OUT, true);
    view.setBigUint64(8, BigInt(sector), true);
    driver.queues[0]!.add([driver.place(header), driver.place(block), driver.room(1)]);
  };
  const start = performance.now();
  const many = 12; // 49,152 bytes, of which 10,000 may pass at once
  for (let i = 0; i < many; i++) write(8 * i);
  driver.kick(0);
  let done = driver.queues[0]!.collect().length;
  assert(done > 0 && done < many, `${done}`);
  const header = new Uint8Array(16);
  const target = driver.room(512);
  driver.queues[0]!.add([driver.place(header), target, driver.room(1)]);
  while (done < many + 1) {
    bench.poller.runOnce(10);
    done += driver.queues[0]!.collect().length;
    assert(performance.now() < start + 10_000);
  }
  const least = (many * 4096 - 10_000 - 4096) / rate * 1000;
  assert(performance.now() - start >= least, "faster than its rate");
  assert.deepEqual(
    Deno.readFileSync(disk.path).subarray(0, many * 4096),
    new Uint8Array(many * 4096).fill(0x5a),
  );

  for (let i = 0; i < many; i++) write(0);
  driver.kick(0);
  const again = driver.start(); // which resets the device while requests wait
  const chain = [again.place(header), again.room(512), again.room(1)];
  again.queues[0]!.add(chain);
  again.kick(0);
  assert.equal(again.queues[0]!.collect().length, 1);
  assert.equal(again.bytesOf(chain[2]!)[0], OK);
});
