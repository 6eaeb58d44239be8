/**
 * Looking into guests' memory, from the process that runs them.
 *
 * @module
 */

/** How often a text stands in the memory of guests of this process. */
export function searchGuestMemory(text: string): number {
  const wanted = new TextEncoder().encode(text);
  const memory = Deno.openSync("/proc/self/mem", { read: true });
  let count = 0;
  for (const line of Deno.readTextFileSync("/proc/self/maps").split("\n")) {
    const [range = "", , , , , name = ""] = line.split(/\s+/);
    const [from, to] = range.split("-").map((text) => Number.parseInt(text, 16)) as [
      number,
      number,
    ];
    // Guest RAM is anonymous, or of a snapshot's file, and larger than anything else here.
    if (!(to - from >= 64 << 20) || name.startsWith("[")) continue;
    const buffer = new Uint8Array(1 << 20);
    for (let at = from; at < to; at += buffer.length) {
      try {
        memory.seekSync(at, Deno.SeekMode.Start);
        if (memory.readSync(buffer) === null) break;
      } catch {
        break; // address space that is only reserved
      }
      for (let i = buffer.indexOf(wanted[0]!); i >= 0; i = buffer.indexOf(wanted[0]!, i + 1)) {
        if (wanted.every((byte, offset) => buffer[i + offset] === byte)) count++;
      }
    }
  }
  memory.close();
  return count;
}
