/**
 * Deterministic, uncompressed EROFS images that can be mounted with `dax=always`.
 *
 * @module
 */
export { type ErofsImage, type ErofsOptions, writeErofs } from "./write.ts";
