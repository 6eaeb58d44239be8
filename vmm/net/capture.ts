/**
 * Writes down what passes between a guest and its network, for Wireshark and tcpdump.
 *
 * @module
 */
import { messageOf } from "../../base/errors.ts";
import { ForwardingPort } from "./forwarding_port.ts";
import type { NetworkPort, Plug } from "./link.ts";
import { pcapRecord } from "./pcap.ts";
import { watched } from "./watched.ts";

/** Most bytes of a file: a guest decides how much passes. */
const MOST_BYTES = 1 << 30;

/**
 * The plug with a capture of its frames. What cannot be written is told once, and the network goes on.
 *
 * @param path of a file with a header of its own (`pcapHeader`), to which is added
 * @param warn hears why nothing more is written
 */
export function captured<Settings>(
  plug: Plug<Settings>,
  path: string,
  warn: (message: string) => void,
): Plug<Settings> {
  const file = Deno.openSync(path, { append: true });
  let room = MOST_BYTES;
  const stop = (why: string) => {
    room = 0;
    warn(`No more is written to ${path}: ${why}`);
  };
  const plugged = watched(plug, (_direction, frame) => {
    if (room === 0) return;
    const record = pcapRecord(frame, Date.now());
    if (record.length > room) return stop(`it has ${MOST_BYTES >> 20} MiB`);
    try {
      for (let done = 0; done < record.length;) done += file.writeSync(record.subarray(done));
      room -= record.length;
    } catch (error) {
      stop(messageOf(error));
    }
  });
  return (link) => new ClosingPort(plugged(link), file);
}

/** A port with a file that ends with it. */
class ClosingPort<Settings> extends ForwardingPort<Settings> {
  readonly #file: Deno.FsFile;

  constructor(port: NetworkPort<Settings>, file: Deno.FsFile) {
    super(port);
    this.#file = file;
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#file.close();
  }
}
