import assert from "node:assert/strict";
import fc from "fast-check";
import { Ports } from "./ports.ts";
import { Rtc } from "./rtc.ts";
import { Stall } from "../vcpu/stall.ts";
import { Serial } from "./serial.ts";

interface Bench {
  readonly serial: Serial;
  readonly sent: number[];
  readonly line: boolean[];
  room: boolean;
  asked: number;
}

function bench(state = Serial.createState()): Bench {
  const result: { -readonly [K in keyof Bench]: Bench[K] } = {
    serial: undefined as unknown as Serial,
    sent: [],
    line: [],
    room: true,
    asked: 0,
  };
  const word = { words: new Int32Array(new SharedArrayBuffer(4)), index: 0, value: 0 };
  result.serial = new Serial(state, {
    output(byte) {
      if (result.room) result.sent.push(byte);
      return result.room;
    },
    room: () => word,
    interrupt: (level) => result.line.push(level),
    roomForInput: () => result.asked++,
  });
  return result;
}

const [DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR] = [0, 1, 2, 3, 4, 5, 6, 7] as const;
const OUT2 = 0x08;

Deno.test("bytes go out in order; a full console makes the writer wait, not lose", () => {
  const { serial, sent } = bench();
  assert.equal(serial.write(DATA, 0x41), undefined);
  assert.equal(serial.read(LSR) & 0x60, 0x60);
  assert.deepEqual(sent, [0x41]);
  const slow = bench();
  slow.room = false;
  const stall = slow.serial.write(DATA, 0x42);
  assert(stall?.retry() instanceof Stall, "there is no room yet");
  assert.deepEqual(slow.sent, []);
  slow.room = true;
  assert.equal(stall.retry(), undefined);
  assert.deepEqual(slow.sent, [0x42]);
});

Deno.test("DLAB turns data and IER into the divisor", () => {
  const { serial, sent } = bench();
  serial.write(LCR, 0x83);
  serial.write(DATA, 12);
  serial.write(IER, 34);
  assert.deepEqual([serial.read(DATA), serial.read(IER)], [12, 34]);
  serial.write(LCR, 0x03);
  assert.equal(serial.read(IER), 0);
  assert.deepEqual(sent, []);
});

Deno.test("the THRE interrupt comes when asked for and after each byte, and IIR takes it back", () => {
  const { serial, line } = bench();
  serial.write(MCR, OUT2);
  serial.write(IIR, 0x01); // FIFO on
  serial.write(IER, 0x02);
  assert.deepEqual(line, [true]);
  assert.equal(serial.read(IIR), 0xc2);
  assert.deepEqual(line, [true, false]);
  assert.equal(serial.read(IIR), 0xc1);
  serial.write(DATA, 1);
  assert.deepEqual(line, [true, false, true]);
  serial.write(IER, 0);
  assert.deepEqual(line, [true, false, true, false]);
});

Deno.test("no interrupt comes while OUT2 is off, as on a PC", () => {
  const { serial, line } = bench();
  serial.write(IER, 0x03);
  serial.receive(Uint8Array.of(1));
  assert.deepEqual(line, []);
  serial.write(MCR, OUT2);
  assert.deepEqual(line, [true]);
});

Deno.test("input is read in order, however it comes; what does not fit is asked for later", () => {
  fc.assert(fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 700 })), (chunks) => {
    const one = bench();
    one.serial.write(MCR, OUT2);
    one.serial.write(IER, 0x01);
    const read: number[] = [];
    const readAll = () => {
      while (one.serial.read(LSR) & 1) read.push(one.serial.read(DATA));
    };
    for (const chunk of chunks) {
      for (let rest = chunk; rest.length > 0;) {
        const asked = one.asked;
        const taken = one.serial.receive(rest);
        rest = rest.subarray(taken);
        if (rest.length > 0) {
          readAll();
          assert.equal(one.asked, asked + 1);
        }
      }
    }
    readAll();
    assert.deepEqual(read, chunks.flatMap((chunk) => [...chunk]));
    assert.notEqual(one.line.at(-1), true); // nothing is pending any more
  }));
});

Deno.test("the receive interrupt has priority, and FCR empties the receiver", () => {
  const { serial } = bench();
  serial.write(MCR, OUT2);
  serial.write(IER, 0x03);
  serial.receive(Uint8Array.of(1, 2));
  assert.equal(serial.read(IIR) & 0x0f, 0x04);
  serial.write(IIR, 0x03);
  assert.equal(serial.read(LSR) & 1, 0);
  assert.equal(serial.read(IIR) & 0x0f, 0x02);
});

Deno.test("loopback returns data and modem lines, and sends nothing", () => {
  const { serial, sent } = bench();
  serial.write(MCR, 0x1a); // LOOP, OUT2, RTS: what a driver tries first
  assert.equal(serial.read(MSR) & 0xf0, 0x90);
  serial.write(DATA, 0x55);
  assert.equal(serial.read(DATA), 0x55);
  assert.deepEqual(sent, []);
});

Deno.test("two threads' devices over one state are one device", () => {
  const state = Serial.createState();
  const one = bench(state);
  const two = bench(state);
  one.serial.write(SCR, 0x5a);
  assert.equal(two.serial.read(SCR), 0x5a);
  one.serial.write(MCR, OUT2);
  one.serial.write(IER, 0x01);
  two.serial.receive(Uint8Array.of(9));
  assert.deepEqual([one.line, two.line], [[], [true]]);
  assert.equal(one.serial.read(DATA), 9);
  assert.deepEqual(one.line, [false]);
});

Deno.test("ports: the keyboard controller resets, the clock tells UTC, the rest reads as ones", () => {
  const ports = new Ports(bench().serial, new Rtc(() => new Date("2031-12-09T23:58:07Z")));
  assert.equal(ports.write(0x64, 1, 0xfe), "reset");
  assert.equal(ports.write(0x64, 1, 0xff), undefined);
  assert.equal(ports.read(0x64, 1), 0);
  const clock = (index: number) => {
    ports.write(0x70, 1, index);
    return ports.read(0x71, 1).toString(16);
  };
  assert.deepEqual([9, 8, 7, 4, 2, 0, 0x32].map(clock), ["31", "12", "9", "23", "58", "7", "20"]);
  assert.equal(ports.write(0x600, 1, 0x20 | 5 << 2), "poweroff"); // SLP_EN, the type of \_S5
  assert.equal(ports.write(0x600, 1, 5 << 2), undefined);
  assert.equal(ports.read(0xcf8, 4), 0xffff_ffff);
  assert.equal(ports.read(0x3fd, 1), 0x60);
});

Deno.test("no sequence of register accesses makes the device fail or answer more than a byte", () => {
  const access = fc.tuple(fc.boolean(), fc.nat({ max: 7 }), fc.nat({ max: 0xffff }));
  fc.assert(fc.property(fc.array(access, { maxLength: 60 }), (accesses) => {
    const { serial } = bench();
    for (const [write, offset, value] of accesses) {
      if (write) serial.write(offset, value);
      const read = serial.read(offset);
      assert.ok(read >= 0 && read <= 0xff);
    }
  }));
});

/** The state of a port with 0 as the lock and the words given, by index. */
function stateWith(words: Readonly<Record<number, number>>): Uint8Array<ArrayBuffer> {
  const bytes = Serial.saveState(Serial.createState());
  for (const [at, value] of Object.entries(words)) {
    new DataView(bytes.buffer).setInt32(4 * Number(at), value, true);
  }
  return bytes;
}

Deno.test("a port goes on where it was saved, even if a thread held its lock then", () => {
  for (const lock of [0, 1, 2, -1]) {
    const before = Serial.createState();
    bench(before).serial.receive(Uint8Array.of(7, 8));
    new Int32Array(before)[0] = lock;
    const bytes = new Uint8Array(before).slice();
    const state = Serial.createState();
    Serial.restoreState(state, lock === 0 ? Serial.saveState(before) : bytes);
    const { serial } = bench(state);
    assert.deepEqual([serial.read(DATA), serial.read(DATA), serial.read(LSR) & 1], [7, 8, 0]);
  }
});

Deno.test("a state that no port has is refused, and changes nothing", () => {
  const state = Serial.createState();
  const before = Serial.saveState(state);
  const [IER_WORD, LINE, HEAD, TAIL, WANTED, FIRST_BYTE] = [1, 9, 10, 11, 12, 13];
  for (
    const words of [
      { [IER_WORD]: 0x10 },
      { [IER_WORD]: -1 },
      { [LINE]: 2 },
      { [TAIL]: 1025 },
      { [HEAD]: 1 },
      { [HEAD]: 0x7fff_ffff, [TAIL]: -0x8000_0000 + 1024 },
      { [WANTED]: 2 },
      { [FIRST_BYTE]: 256 },
    ]
  ) {
    assert.throws(() => Serial.restoreState(state, stateWith(words)), RangeError);
  }
  assert.throws(() => Serial.restoreState(state, before.subarray(4)), RangeError);
  assert.deepEqual(Serial.saveState(state), before);
  Serial.restoreState(state, stateWith({ [HEAD]: 0x7fff_ffff, [TAIL]: -0x8000_0000 })); // one byte
  assert.equal(bench(state).serial.read(LSR) & 1, 1);
});
