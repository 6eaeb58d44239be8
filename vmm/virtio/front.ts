/**
 * The front half of a virtio device in a vCPU's thread: joins the MMIO bus to the transport.
 *
 * @module
 */
import type { MmioDevice, MmioRegion } from "../vcpu/bus.ts";
import { signalEvent } from "../../ffi/eventfd.ts";
import type { GuestMemory } from "../memory/guest_memory.ts";
import { MmioTransport } from "./mmio.ts";
import { TransportState } from "./state.ts";

/**
 * Makes the front half of a device.
 *
 * @param region of the device, with the descriptors `wake`, and `queue0` and so on
 * @param memory the guest's
 */
export function virtioMmio(region: MmioRegion, memory: GuestMemory): MmioDevice {
  const { wake } = region.fds;
  const transport = new MmioTransport(
    new TransportState(region.shared),
    { offsetOf: (address, length) => memory.contains(address, length) ? 0 : -1 },
    {
      command: () => signalEvent(wake!),
      notify: (queue) => signalEvent(region.fds[`queue${queue}`]!),
    },
  );
  return {
    read(offset, data) {
      const value = transport.read(offset, data.byteLength);
      switch (data.byteLength) {
        case 1:
          return data.setUint8(0, value);
        case 2:
          return data.setUint16(0, value, true);
        case 4:
          return data.setUint32(0, value, true);
        case 8:
          data.setUint32(0, value % 0x1_0000_0000, true);
          return data.setUint32(4, Math.floor(value / 0x1_0000_0000), true);
      }
    },
    write(offset, data) {
      switch (data.byteLength) {
        case 1:
          return transport.write(offset, 1, data.getUint8(0));
        case 2:
          return transport.write(offset, 2, data.getUint16(0, true));
        case 4:
          return transport.write(offset, 4, data.getUint32(0, true));
        case 8: { // only a configuration space has 64-bit fields: 4.2.2.2 allows 32-bit halves
          const high = data.getUint32(4, true);
          const writeHigh = () => transport.write(offset + 4, 4, high);
          const stall = transport.write(offset, 4, data.getUint32(0, true));
          return stall === undefined ? writeHigh() : stall.followedBy(writeHigh);
        }
      }
      return undefined;
    },
  };
}
