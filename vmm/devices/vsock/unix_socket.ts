/**
 * Unix stream sockets as raw, non-blocking descriptors: what the device worker's loop watches.
 *
 * @module
 */
import { CloudletError } from "../../../base/errors.ts";
import { OwnedFd } from "../../../ffi/fd.ts";
import { check, libc } from "../../../ffi/libc.ts";
import { AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM } from "../../../ffi/uapi/mman.ts";

/** unix(7): sun_path has 108 bytes, one of them for the NUL. */
export const MAX_SOCKET_PATH = 107;
const BACKLOG = 128;
const FLAGS = SOCK_NONBLOCK | SOCK_CLOEXEC;

// struct sockaddr_un { sa_family_t sun_family; char sun_path[108]; }
function sockaddr(path: string): Uint8Array<ArrayBuffer> {
  const name = new TextEncoder().encode(path);
  if (name.length === 0 || name.length > MAX_SOCKET_PATH || name.includes(0)) {
    throw new CloudletError(
      `Cannot use the socket path ${path}: it must have 1 to ${MAX_SOCKET_PATH} bytes`,
      { code: "invalid-input", remedy: "choose a shorter directory for sockets" },
    );
  }
  const address = new Uint8Array(2 + name.length + 1);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(name, 2);
  return address;
}

function socket(): OwnedFd {
  return new OwnedFd(check("socket", libc().socket(AF_UNIX, SOCK_STREAM | FLAGS, 0)));
}

/** A listening socket that removes its name when disposed. */
export class UnixListener implements Disposable {
  readonly #socket: OwnedFd;

  /**
   * Listens; only the owner of the process may connect.
   *
   * @param path file system name, which must not exist
   * @throws {SyscallError} such as EADDRINUSE when something has that name
   */
  constructor(readonly path: string) {
    const address = sockaddr(path);
    using stack = new DisposableStack();
    const fd = stack.use(socket());
    check(`bind ${path}`, libc().bind(fd.fd, address, address.length));
    stack.defer(() => removeName(path));
    Deno.chmodSync(path, 0o600);
    check(`listen ${path}`, libc().listen(fd.fd, BACKLOG));
    this.#socket = fd;
    stack.move();
  }

  /** The descriptor, to be watched for EPOLLIN. */
  get fd(): number {
    return this.#socket.fd;
  }

  /** The next client, or undefined when none waits. */
  accept(): OwnedFd | undefined {
    const fd = libc().accept4(this.fd, null, null, FLAGS);
    return fd < 0 ? undefined : new OwnedFd(fd);
  }

  /** Stops listening and removes the name. */
  [Symbol.dispose](): void {
    if (this.#socket.closed) return;
    this.#socket[Symbol.dispose]();
    removeName(this.path);
  }
}

function removeName(path: string): void {
  try {
    Deno.removeSync(path);
  } catch {
    // somebody removed it already
  }
}

/** Connects to a listening socket at once, or returns undefined when that is not possible. */
export function connectUnix(path: string): OwnedFd | undefined {
  const address = sockaddr(path);
  const fd = socket();
  // unix(7): connecting a stream socket is done at once, or fails (EAGAIN: the backlog is full).
  if (libc().connect(fd.fd, address, address.length) === 0) return fd;
  fd[Symbol.dispose]();
  return undefined;
}
