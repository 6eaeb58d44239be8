/**
 * What the main thread and a device worker say to each other.
 *
 * @module
 */
import type { DeviceName } from "../devices/registry.ts";
import type { MemoryDescription } from "../memory/guest_memory.ts";
import type { SlotSnapshot } from "../virtio/slot.ts";
/** One device to be made. */
export interface DeviceSpec {
  /** Which kind. */
  readonly kind: DeviceName;
  /** What that kind's `plan` returned. */
  readonly spec: unknown;
}

/** What a device worker sends the main thread when it is there. */
export interface ThreadReady {
  /** eventfd that says that there is something at the port that the worker was given first. */
  readonly wake: number;
}

/** What the devices of a VM are made from. */
export interface StartMessage {
  /** The guest's memory. */
  readonly memory: MemoryDescription;
  /** In the order of their windows. */
  readonly devices: readonly DeviceSpec[];
  /** Where {@linkcode DeviceRequest}s come from and {@linkcode DeviceEvent}s go. */
  readonly port: MessagePort;
  /** eventfd that says that there is a request, or a command in a device's registers. */
  readonly wake: number;
}

/** A device as it was saved, without its registers: those the main thread puts back. */
export type SavedSlot = Omit<SlotSnapshot, "transport">;

/** Main thread to worker, at the port that it was given first. */
export type ThreadRequest =
  /** Run the devices of another VM. */
  | { readonly kind: "start"; readonly start: StartMessage }
  /** End; there are no devices. */
  | { readonly kind: "end" };

/** What changes devices: it waits while they are frozen. */
export type DeviceChange =
  /** What the device's kind calls a request. */
  | { readonly kind: "request"; readonly device: number; readonly request: unknown }
  | { readonly kind: "restore"; readonly id: number; readonly slots: readonly SavedSlot[] };

/** Main thread to the devices of one VM. Those with an `id` are answered. */
export type DeviceRequest =
  | DeviceChange
  | { readonly kind: "statistics"; readonly id: number }
  /** Freeze, and give what a snapshot keeps. */
  | { readonly kind: "save"; readonly id: number }
  /** Go on after a save. */
  | { readonly kind: "thaw" }
  | { readonly kind: "stop" };

/** What the main thread needs to know of a device that was made. */
export interface MadeDevice {
  /** Its registers. */
  readonly registers: SharedArrayBuffer;
  /** eventfd of each queue. */
  readonly kicks: readonly number[];
  /** eventfd of its interrupt. */
  readonly interrupt: number;
}

/** Counters of one device. */
export interface DeviceStatistics {
  /** Such as `blk`. */
  readonly name: string;
  /** Counters by name. */
  readonly counters: Readonly<Record<string, number>>;
}

/** Worker to main thread. */
export type DeviceEvent =
  | { readonly kind: "ready"; readonly devices: readonly MadeDevice[] }
  | { readonly kind: "failed"; readonly message: string }
  /** What the device's kind calls an event. */
  | { readonly kind: "event"; readonly device: number; readonly event: unknown }
  | { readonly kind: "warning"; readonly message: string }
  | {
    readonly kind: "statistics";
    readonly id: number;
    readonly devices: readonly DeviceStatistics[];
  }
  | { readonly kind: "saved"; readonly id: number; readonly slots: readonly SlotSnapshot[] }
  | { readonly kind: "restored"; readonly id: number }
  | { readonly kind: "refused"; readonly id: number; readonly message: string }
  | { readonly kind: "stopped" };
