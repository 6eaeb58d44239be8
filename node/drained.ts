/**
 * Back-pressure of Node's streams.
 *
 * @module
 */
import type { Writable } from "node:stream";

/**
 * Waits until a stream whose `write` gave false takes more. `once(stream, "drain")` would wait for ever where
 * the stream is closed instead.
 *
 * @throws {Error} when it is closed
 */
export function drained(stream: Writable): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (done: () => void) => () => {
      stream.off("drain", onDrain);
      stream.off("close", onClose);
      done();
    };
    const onDrain = settle(resolve);
    const onClose = settle(() => reject(new Error("the connection was closed")));
    stream.on("drain", onDrain);
    stream.on("close", onClose);
    if (stream.destroyed) onClose();
  });
}
