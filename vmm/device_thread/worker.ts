/**
 * The device worker: one thread that runs all devices of one VM, or of several. It blocks in
 * epoll_wait(2), so messages are taken from ports when a wake event says so.
 *
 * @module
 */
import { receiveMessageOnPort } from "node:worker_threads";
import { CloudletError, messageOf } from "../../base/errors.ts";
import { workerScope } from "../../base/worker_scope.ts";
import { clearEvent, eventFd } from "../../ffi/eventfd.ts";
import { EPOLLIN } from "../../ffi/uapi/mman.ts";
import { DeviceSet, stopped } from "./device_set.ts";
import type { DeviceEvent, StartMessage, ThreadReady, ThreadRequest } from "./messages.ts";
import { Poller } from "./poller.ts";

const scope = workerScope<MessagePort, ThreadReady>();

/** The devices of all VMs of this thread. */
class DeviceSets implements Disposable {
  readonly #poller: Poller;
  readonly #sets = new Set<DeviceSet>();

  constructor(poller: Poller) {
    this.#poller = poller;
  }

  start(message: StartMessage): void {
    try {
      const set = new DeviceSet(message, this.#poller, () => this.#sets.delete(set));
      this.#sets.add(set);
    } catch (error) {
      const text = error instanceof CloudletError ? error.message : messageOf(error);
      message.port.postMessage({ kind: "failed", message: text } satisfies DeviceEvent);
      stopped(message.port);
    }
  }

  /** Lets go of what is left: the loop broke, and their VMs end. */
  [Symbol.dispose](): void {
    using stack = new DisposableStack(); // one that fails holds up no other one
    for (const set of this.#sets) stack.use(set);
  }
}

/** Runs the devices of all VMs that come, until the thread ends. */
async function serve(port: MessagePort): Promise<void> {
  using wake = eventFd();
  using poller = new Poller((message) => console.error(`cloudlet: devices: ${message}`));
  using sets = new DeviceSets(poller);
  poller.watch(wake.fd, EPOLLIN, () => {
    clearEvent(wake.fd);
    for (;;) {
      const received = receiveMessageOnPort(port as never);
      if (received === undefined) return;
      const request = received.message as ThreadRequest;
      if (request.kind === "start") sets.start(request.start);
      else poller.stop();
    }
  });
  scope.postMessage({ wake: wake.fd });
  await poller.run();
  port.close();
}

scope.onmessage = async ({ data: port }) => {
  await serve(port);
  scope.close(); // nothing is done after that, not even what `using` promises
};
