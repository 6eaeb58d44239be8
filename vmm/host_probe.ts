/** Placeholder removed below. @module */
import type { HostKind } from "./host_kind.ts";
import type { Kvm } from "./kvm.ts";
/** x */
export function hostKind(_kvm: Kvm): HostKind {
  return "software";
}
