/**
 * What images and packages must be made for: microVMs are x86-64, whatever the host is.
 *
 * @module
 */

/** As Debian and the OCI image specification (GOARCH) both name it. */
export const ARCHITECTURE = "amd64";
