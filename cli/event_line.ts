/**
 * How a run's events are shown as JSON.
 *
 * @module
 */
import type { RunEvent } from "../api/library/run.ts";

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function dataFields(data: Uint8Array): { text: string } | { base64: string } {
  try {
    return { text: strictUtf8.decode(data) };
  } catch {
    return { base64: data.toBase64() };
  }
}

/**
 * An event as one line of JSON; output is `text`, or `base64` where it is not UTF-8. Of a file, which is
 * written elsewhere, it has no content.
 */
export function eventLine(event: RunEvent): string {
  const plain = event.type === "stdout" || event.type === "stderr"
    ? { type: event.type, ...dataFields(event.data) }
    : event.type === "file"
    ? {
      type: event.type,
      path: event.path,
      mode: event.mode,
      offset: event.offset,
      bytes: event.data.length,
    }
    : event.type === "exit"
    ? { type: event.type, ...event.result }
    : event;
  return JSON.stringify(plain) + "\n";
}
