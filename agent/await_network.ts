/**
 * Waits until the network that the host plugged in can be used. A clone's programs start a moment after
 * it was: what they connect to must be reached at once.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import { GATEWAY_ADDRESS } from "../workload/guest_addresses.ts";
import { checked, errno, libc, memory } from "./libc.ts";

const GATEWAY = GATEWAY_ADDRESS.split(".").map(Number);
/** RFC 863: nobody is sent anything here. */
const DISCARD = 9;
/** Milliseconds: the longest wait, and the time between two looks. */
const PATIENCE = 10_000;
const INTERVAL = 2;

// include/linux/socket.h, include/uapi/asm-generic/errno.h
const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const ENETUNREACH = 101;

/** Looks whether there is a way to the gateway: connect(2) of a datagram socket sends nothing. */
export function gatewayIsReachable(): boolean {
  const socket = checked(libc().socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0), "make a socket");
  try {
    // struct sockaddr_in: family, port and address, the last two in network order
    const address = memory(16);
    const view = new DataView(address.buffer);
    view.setUint16(0, AF_INET, true);
    view.setUint16(2, DISCARD);
    address.set(GATEWAY, 4);
    if (libc().connect(socket, address, address.length) === 0) return true;
    const code = errno();
    if (code === ENETUNREACH) return false;
    throw new CloudletError(`Cannot look for the gateway: error ${code}`, { code: "guest" });
  } finally {
    libc().close(socket);
  }
}

/**
 * Resolves when programs can connect.
 *
 * @param look tells whether they can; for tests
 * @throws {CloudletError} `guest` when they cannot after ten seconds
 */
export async function awaitNetwork(
  signal: AbortSignal,
  look: () => boolean = gatewayIsReachable,
): Promise<void> {
  const end = performance.now() + PATIENCE;
  while (!look()) {
    signal.throwIfAborted();
    if (performance.now() > end) {
      throw new CloudletError("Cannot give the program its network: the guest's card stays down", {
        code: "guest",
        remedy: "use a kernel with virtio-net, such as the one that cloudlet builds",
      });
    }
    await new Promise((resolve) => setTimeout(resolve, INTERVAL));
  }
}
