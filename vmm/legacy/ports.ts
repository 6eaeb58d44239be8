/**
 * The I/O ports that a kernel touches on a machine that is little more than processors and memory.
 *
 * @module
 */
import { Stall } from "../vcpu/stall.ts";
import type { Serial } from "./serial.ts";
import {
  SERIAL_PORT,
  SERIAL_PORTS,
  SLEEP_CONTROL_PORT,
  SLEEP_STATUS_PORT,
  SLEEP_TYPE_OFF,
} from "../layout.ts";
import { Rtc } from "./rtc.ts";

const SERIAL_END = SERIAL_PORT + SERIAL_PORTS;
const RTC_INDEX = 0x70;
const RTC_DATA = 0x71;
const I8042_DATA = 0x60;
const I8042_COMMAND = 0x64;
const I8042_PULSE_RESET = 0xfe; // drivers/platform: mach_reboot_fixups, "reboot=k"
// ACPI 6.4 4.8.3.7: bit 5 is SLP_EN, bits 4 to 2 SLP_TYPx
const SLEEP_ENABLE = 1 << 5;
const SLEEP_TYPE_SHIFT = 2;
const SLEEP_OFF = SLEEP_ENABLE | SLEEP_TYPE_OFF << SLEEP_TYPE_SHIFT;

/** What a port write asks of the machine. */
export type PortEvent = "reset" | "poweroff";

/** Answers port I/O in one vCPU thread. */
export class Ports {
  readonly #serial: Serial;
  readonly #rtc: Rtc;

  /** @param serial the first serial port, as seen from this thread */
  constructor(serial: Serial, rtc: Rtc = new Rtc()) {
    this.#serial = serial;
    this.#rtc = rtc;
  }

  /** The guest reads `size` bytes. What is not there reads as all ones. */
  read(port: number, size: number): number {
    let value = 0;
    for (let i = 0; i < size; i++) value |= this.#readByte(port + i) << (8 * i);
    return value >>> 0;
  }

  /** The guest writes `size` bytes, of which the `first` ones were written before. */
  write(
    port: number,
    size: number,
    value: number,
    first = 0,
  ): PortEvent | undefined | Stall<PortEvent | undefined> {
    let event: PortEvent | undefined;
    for (let i = first; i < size; i++) {
      const answer = this.#writeByte(port + i, value >>> (8 * i));
      if (answer instanceof Stall) {
        return answer.followedBy(() => this.write(port, size, value, i + 1));
      }
      event = answer ?? event;
    }
    return event;
  }

  #readByte(port: number): number {
    if (port >= SERIAL_PORT && port < SERIAL_END) return this.#serial.read(port - SERIAL_PORT);
    switch (port) {
      case RTC_DATA:
        return this.#rtc.read();
      case I8042_COMMAND:
      case I8042_DATA:
        return 0; // both buffers are empty
      case SLEEP_CONTROL_PORT:
      case SLEEP_STATUS_PORT:
        return 0; // it is awake
      default:
        return 0xff;
    }
  }

  #writeByte(port: number, value: number): PortEvent | Stall | undefined {
    if (port >= SERIAL_PORT && port < SERIAL_END) {
      return this.#serial.write(port - SERIAL_PORT, value & 0xff);
    } else if (port === RTC_INDEX) {
      this.#rtc.select(value & 0x7f); // bit 7 masks NMIs
    } else if (port === I8042_COMMAND && (value & 0xff) === I8042_PULSE_RESET) {
      return "reset";
    } else if (port === SLEEP_CONTROL_PORT && (value & 0xff) === SLEEP_OFF) {
      return "poweroff";
    }
    return undefined;
  }
}
