/**
 * The devices that a VM can have.
 *
 * @module
 */
import { balloonKind } from "./balloon/kind.ts";
import { blkKind } from "./blk/kind.ts";
import { consoleKind } from "./console/kind.ts";
import type { AnyDeviceKind, DeviceKind } from "./kind.ts";
import { netKind } from "./net/kind.ts";
import { pmemKind } from "./pmem/kind.ts";
import { rngKind } from "./rng/kind.ts";
import { vsockKind } from "./vsock/kind.ts";

/** In the order of their windows in guest memory, which a snapshot's guest remembers. */
const KINDS = {
  pmem: pmemKind,
  blk: blkKind,
  vsock: vsockKind,
  console: consoleKind,
  rng: rngKind,
  balloon: balloonKind,
  net: netKind,
};

/** Name of a kind of device. */
export type DeviceName = keyof typeof KINDS;

type ConfigOf<Kind> = Kind extends
  DeviceKind<infer Config, infer _Spec, infer _Request, infer _Event> ? Config
  : never;

/** Which devices a VM has, by kind. */
export type DevicesConfig = {
  readonly [Name in DeviceName]?: ConfigOf<(typeof KINDS)[Name]>;
};

/** Names of all kinds, in the order of their windows. */
export const DEVICE_NAMES = Object.keys(KINDS) as readonly DeviceName[];

/** The kind of a name. */
export function deviceKind(name: DeviceName): AnyDeviceKind {
  return KINDS[name];
}
