/**
 * The first serial port of a PC: a 16550A UART (National Semiconductor PC16550D data sheet), whose
 * registers live in a SharedArrayBuffer so that every vCPU thread and the main thread drive one
 * device. It knows no operating system: where bytes go and how an interrupt is raised is injected.
 *
 * @module
 */
import { SharedLock } from "./lock.ts";
import { type SharedWord, Stall } from "../vcpu/stall.ts";

/** Register offsets. */
const DATA = 0; // RBR, THR; DLL with DLAB
const IER = 1; // DLM with DLAB
const IIR_FCR = 2;
const LCR = 3;
const MCR = 4;
const LSR = 5;
const MSR = 6;
const SCR = 7;

const IER_RDI = 0x01;
const IER_THRI = 0x02;
const IER_MASK = 0x0f;
const IIR_NONE = 0x01;
const IIR_THRI = 0x02;
const IIR_RDI = 0x04;
const IIR_FIFO = 0xc0;
const FCR_ENABLE = 0x01;
const FCR_CLEAR_RX = 0x02;
const LCR_DLAB = 0x80;
const MCR_OUT2 = 0x08; // on a PC it gates the interrupt line
const MCR_LOOP = 0x10;
const MCR_MASK = 0x1f;
const LSR_DR = 0x01;
const LSR_THRE = 0x20;
const LSR_TEMT = 0x40;
const MSR_CTS = 0x10;
const MSR_DSR = 0x20;
const MSR_DCD = 0x80;

/** Words of the shared state, in this order; then the receive buffer, one byte a word. */
const enum Word {
  Lock,
  Ier,
  Fcr,
  Lcr,
  Mcr,
  Scr,
  Dll,
  Dlm,
  ThrEmptyPending,
  Line,
  RxHead,
  RxTail,
  RxWanted,
  End,
}

const RX_SIZE = 1024; // a power of two

/** The largest value of a word that has a range; 0 for the lock, which belongs to threads that run. */
const LARGEST: readonly (readonly [Word, number])[] = [
  [Word.Lock, 0],
  [Word.Ier, IER_MASK],
  [Word.Fcr, 0xff],
  [Word.Lcr, 0xff],
  [Word.Mcr, MCR_MASK],
  [Word.Scr, 0xff],
  [Word.Dll, 0xff],
  [Word.Dlm, 0xff],
  [Word.ThrEmptyPending, 1],
  [Word.Line, 1],
  [Word.RxWanted, 1],
];

/** What the device needs from its surroundings. */
export interface SerialHooks {
  /**
   * Takes a byte that the guest sends.
   *
   * @returns false when there is no room now
   */
  output(byte: number): boolean;
  /** What changes when {@linkcode output} has room again. */
  room(): SharedWord;
  /** Sets the interrupt line. */
  interrupt(level: boolean): void;
  /** The receive buffer has room again after {@linkcode Serial.receive} could not take all. */
  roomForInput(): void;
}

/** The UART. */
export class Serial {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #lock: SharedLock;
  readonly #hooks: SerialHooks;

  /**
   * @param state made by {@linkcode Serial.createState}
   * @param hooks the surroundings, in this thread
   */
  constructor(state: SharedArrayBuffer, hooks: SerialHooks) {
    this.#words = new Int32Array(state);
    this.#lock = new SharedLock(this.#words, Word.Lock);
    this.#hooks = hooks;
  }

  /** Registers after reset, and an empty receive buffer. */
  static createState(): SharedArrayBuffer {
    const state = new SharedArrayBuffer((Word.End + RX_SIZE) * 4);
    const words = new Int32Array(state);
    words[Word.Dll] = 1; // 115200 baud
    words[Word.Lcr] = 0x03; // 8 bits
    return state;
  }

  /** The state as bytes; no thread drives the port. */
  static saveState(state: SharedArrayBuffer): Uint8Array<ArrayBuffer> {
    const words = new Int32Array(new Int32Array(state));
    words[Word.Lock] = 0;
    return new Uint8Array(words.buffer);
  }

  /**
   * Puts back what {@linkcode saveState} gave. The lock stays free, whatever the bytes say: the thread
   * that held it is gone, and the next one would wait for ever.
   *
   * @param state made by {@linkcode createState}; unchanged when this throws
   * @param bytes of its size, from anywhere
   * @throws {RangeError} when no port has such a state
   */
  static restoreState(state: SharedArrayBuffer, bytes: Uint8Array): void {
    if (bytes.length !== state.byteLength) throw new RangeError("it has another size");
    const words = new Int32Array(Uint8Array.from(bytes).buffer);
    words[Word.Lock] = 0;
    const wrong = LARGEST.find(([word, most]) => !(words[word]! >= 0 && words[word]! <= most));
    if (wrong !== undefined) throw new RangeError(`its word ${wrong[0]} is ${words[wrong[0]]}`);
    const received = (words[Word.RxTail]! - words[Word.RxHead]!) | 0;
    if (received < 0 || received > RX_SIZE) {
      throw new RangeError(`it has received ${received} bytes`);
    }
    if (words.subarray(Word.End).some((byte) => byte < 0 || byte > 0xff)) {
      throw new RangeError("it has received what is no byte");
    }
    new Int32Array(state).set(words);
  }

  /** The guest reads a register. */
  read(offset: number): number {
    const words = this.#words;
    // Polled between bytes by a console that prints; needs no lock: nothing changes.
    if (offset === LSR) return this.#lineStatus();
    return this.#lock.run(() => {
      switch (offset) {
        case DATA:
          return words[Word.Lcr]! & LCR_DLAB ? words[Word.Dll]! : this.#receiveByte();
        case IER:
          return words[Word.Lcr]! & LCR_DLAB ? words[Word.Dlm]! : words[Word.Ier]!;
        case IIR_FCR:
          return this.#identifyInterrupt();
        case LCR:
          return words[Word.Lcr]!;
        case MCR:
          return words[Word.Mcr]!;
        case MSR:
          return this.#modemStatus();
        case SCR:
          return words[Word.Scr]!;
        default:
          return 0xff;
      }
    });
  }

  /**
   * The guest writes a register.
   *
   * @returns what it has to wait for: there is no room for what it sends
   */
  write(offset: number, value: number): Stall | undefined {
    if (this.#lock.run(() => this.#tryWrite(offset, value & 0xff))) return undefined;
    return new Stall(this.#hooks.room(), () => this.write(offset, value));
  }

  /**
   * Bytes arrive for the guest.
   *
   * @returns how many there was room for; {@linkcode SerialHooks.roomForInput} tells when to go on
   */
  receive(bytes: Uint8Array): number {
    return this.#lock.run(() => {
      const words = this.#words;
      let taken = 0;
      while (taken < bytes.length && this.#pushReceived(bytes[taken]!)) taken++;
      if (taken < bytes.length) words[Word.RxWanted] = 1;
      this.#updateLine();
      return taken;
    });
  }

  #lineStatus(): number {
    const words = this.#words;
    const ready = Atomics.load(words, Word.RxHead) !== Atomics.load(words, Word.RxTail);
    return LSR_THRE | LSR_TEMT | (ready ? LSR_DR : 0); // sent at once, so always empty
  }

  #tryWrite(offset: number, value: number): boolean {
    const words = this.#words;
    switch (offset) {
      case DATA:
        if (words[Word.Lcr]! & LCR_DLAB) {
          words[Word.Dll] = value;
          return true;
        }
        if (words[Word.Mcr]! & MCR_LOOP) this.#pushReceived(value);
        else if (!this.#hooks.output(value)) return false;
        words[Word.ThrEmptyPending] = 1;
        break;
      case IER:
        if (words[Word.Lcr]! & LCR_DLAB) {
          words[Word.Dlm] = value;
          return true;
        }
        // "[THRE interrupt] ... also when IER bit 1 is set while THR is empty", which it always is.
        if (value & IER_THRI && !(words[Word.Ier]! & IER_THRI)) words[Word.ThrEmptyPending] = 1;
        words[Word.Ier] = value & IER_MASK;
        break;
      case IIR_FCR:
        words[Word.Fcr] = value;
        if (value & FCR_CLEAR_RX) Atomics.store(words, Word.RxHead, words[Word.RxTail]!);
        break;
      case LCR:
        words[Word.Lcr] = value;
        return true;
      case MCR:
        words[Word.Mcr] = value & MCR_MASK;
        break;
      case SCR:
        words[Word.Scr] = value;
        return true;
    }
    this.#updateLine();
    return true;
  }

  #pushReceived(byte: number): boolean {
    const words = this.#words;
    const tail = words[Word.RxTail]!;
    if (((tail - words[Word.RxHead]!) | 0) >= RX_SIZE) return false;
    words[Word.End + (tail & (RX_SIZE - 1))] = byte;
    Atomics.store(words, Word.RxTail, (tail + 1) | 0);
    return true;
  }

  #receiveByte(): number {
    const words = this.#words;
    const head = words[Word.RxHead]!;
    if (head === words[Word.RxTail]) return 0;
    const byte = words[Word.End + (head & (RX_SIZE - 1))]!;
    Atomics.store(words, Word.RxHead, (head + 1) | 0);
    if (words[Word.RxWanted] === 1) {
      words[Word.RxWanted] = 0;
      this.#hooks.roomForInput();
    }
    this.#updateLine();
    return byte;
  }

  #receivePending(): boolean {
    const words = this.#words;
    return (words[Word.Ier]! & IER_RDI) !== 0 && words[Word.RxHead] !== words[Word.RxTail];
  }

  #transmitPending(): boolean {
    const words = this.#words;
    return (words[Word.Ier]! & IER_THRI) !== 0 && words[Word.ThrEmptyPending] === 1;
  }

  #identifyInterrupt(): number {
    const words = this.#words;
    const fifo = words[Word.Fcr]! & FCR_ENABLE ? IIR_FIFO : 0;
    if (this.#receivePending()) return fifo | IIR_RDI;
    if (this.#transmitPending()) {
      words[Word.ThrEmptyPending] = 0; // "reset by reading IIR (if source of interrupt)"
      this.#updateLine();
      return fifo | IIR_THRI;
    }
    return fifo | IIR_NONE;
  }

  #modemStatus(): number {
    const mcr = this.#words[Word.Mcr]!;
    if (!(mcr & MCR_LOOP)) return MSR_CTS | MSR_DSR | MSR_DCD; // somebody is always there
    // In loopback RTS, DTR, OUT1 and OUT2 come back as CTS, DSR, RI and DCD.
    return ((mcr & 0x02) << 3) | ((mcr & 0x01) << 5) | ((mcr & 0x04) << 4) | ((mcr & 0x08) << 4);
  }

  #updateLine(): void {
    const words = this.#words;
    const gate = (words[Word.Mcr]! & (MCR_OUT2 | MCR_LOOP)) === MCR_OUT2;
    const level = gate && (this.#receivePending() || this.#transmitPending()) ? 1 : 0;
    if (level === words[Word.Line]) return;
    words[Word.Line] = level;
    this.#hooks.interrupt(level === 1);
  }
}
