/**
 * The guest's network, the same in every machine: each has a link of its own, so that a clone needs no
 * other address.
 *
 * @module
 */

/** The guest's own address; its network has 24 bits. */
export const GUEST_ADDRESS = "10.0.2.15";
/** Its gateway, which also answers questions for names. */
export const GATEWAY_ADDRESS = "10.0.2.2";
