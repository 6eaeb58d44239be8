/**
 * Follows the frames of zstd data as they pass: the decoder of Deno's node:zlib stops after the first
 * frame, and takes data that end in the middle of a frame for complete.
 *
 * RFC 8878 3.1.1 (frames, blocks) and 3.1.2 (skippable frames).
 *
 * @module
 */

/** Where in the data the next byte is. */
type State = "magic" | "descriptor" | "block" | "skippable-size" | "skip";

const ZSTD_MAGIC = 0xfd2fb528;
const SKIPPABLE = 0x184d2a50; // to 0x184d2a5f

/** Tells whether what has passed ends where a frame ends. */
export class ZstdFrames {
  #state: State = "magic";
  /** Bytes of the field that is being collected, little-endian. */
  #collected: number[] = [];
  /** Bytes that the field has, or that are to be skipped. */
  #wanted = 4;
  /** What follows after skipping. */
  #afterSkip: "magic" | "block" = "magic";
  #checksum = 0;

  /** Whether a frame could start here, or the data end. */
  get complete(): boolean {
    return this.#state === "magic" && this.#collected.length === 0;
  }

  /**
   * Takes the next bytes, up to the end of the frame.
   *
   * @returns how many were taken
   * @throws {Error} when no frame starts where one should
   */
  push(bytes: Uint8Array): number {
    for (let at = 0; at < bytes.length;) {
      if (this.#state === "skip") {
        const count = Math.min(this.#wanted, bytes.length - at);
        at += count;
        this.#wanted -= count;
        this.#finishSkip();
      } else {
        this.#collected.push(bytes[at++]!);
        if (this.#collected.length === this.#wanted) {
          // Not by shifting: a 32-bit field would become negative.
          const value = this.#collected.reduceRight((sum, byte) => sum * 256 + byte, 0);
          this.#collected = [];
          this.#field(value);
        }
      }
      if (this.complete) return at;
    }
    return bytes.length;
  }

  #field(value: number): void {
    switch (this.#state) {
      case "magic":
        if (value === ZSTD_MAGIC) this.#collect("descriptor", 1);
        else if (value - value % 16 === SKIPPABLE) this.#collect("skippable-size", 4);
        else throw new Error("unknown frame");
        break;
      case "descriptor": {
        const singleSegment = (value >> 5) & 1;
        const sizeFlag = value >> 6;
        const contentSize = [singleSegment, 2, 4, 8][sizeFlag]!;
        const dictionary = [0, 1, 2, 4][value & 3]!;
        this.#checksum = value & 4; // 4 bytes when the flag, bit 2, is set
        const rest = (singleSegment ? 0 : 1) + contentSize + dictionary;
        this.#skip(rest, "block");
        break;
      }
      case "block": {
        const last = value & 1;
        const type = (value >> 1) & 3;
        const size = type === 1 ? 1 : value >> 3; // RLE: one byte, repeated
        if (last) this.#skip(size + this.#checksum, "magic");
        else this.#skip(size, "block");
        break;
      }
      case "skippable-size":
        this.#skip(value, "magic");
        break;
      case "skip":
        break; // no field
    }
  }

  #collect(state: State, length: number): void {
    this.#state = state;
    this.#wanted = length;
  }

  #skip(length: number, then: "magic" | "block"): void {
    this.#state = "skip";
    this.#wanted = length;
    this.#afterSkip = then;
    this.#finishSkip();
  }

  #finishSkip(): void {
    if (this.#wanted === 0) this.#collect(this.#afterSkip, this.#afterSkip === "magic" ? 4 : 3);
  }
}
