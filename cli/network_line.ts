/**
 * How what happens in a program's network is shown to people.
 *
 * @module
 */
import type { NetworkReport } from "../api/network.ts";

/** A line for standard error, with what to do about it. */
export function networkLine(report: NetworkReport): string {
  if (report.kind === "secret") return report.message.replaceAll(/[^\x20-\x7e]/g, "?");
  if (report.kind !== "denied") {
    const { kind, address, port, guestPort } = report;
    return kind === "published"
      ? `http://${address}:${port} leads to port ${guestPort} of the program`
      : `a client of ${address}:${port} was reset; nothing listens on port ${guestPort} in the microVM`;
  }
  const { asked, name, address, port, rule, floor, building } = report;
  const allow = building === true ? "--build-network" : "--allow";
  const host = name ?? address ?? "";
  const destination = `${host}${port === undefined ? "" : `:${port}`}${
    asked === "udp" ? "/udp" : ""
  }`;
  const told = plain(destination);
  if (rule !== undefined) return `denied ${told}: the rule to deny ${plain(rule)}`;
  if (asked === "server-name" && name === undefined) {
    return `denied ${told}: the connection names no server, so that it cannot be the one allowed`;
  }
  if (floor && name !== undefined && name !== "host") {
    return `denied ${told}: it is at the private address ${address}; ` +
      `allow it with ${allow} ${address}`;
  }
  return `denied ${told}; allow it with ${allow} ${told}`;
}

/** Names are the guest's: no control character of them gets to a terminal. */
function plain(text: string): string {
  return text.replaceAll(/[^\x21-\x7e]/g, "?");
}
