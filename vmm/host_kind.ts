/**
 * Tells the two kinds of KVM apart.
 *
 * @module
 */

/** `hardware`: VT-x or AMD-V. `software`: guest kernels are emulated, as kvm_pvm does. */
export type HostKind = "hardware" | "software";
