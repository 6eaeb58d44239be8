/**
 * What can be the name of a run.
 *
 * @module
 */

/** Such a name. */
export const RUN_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/** The same for people, as it follows "use". */
export const RUN_NAME_RULE = "up to 128 of [A-Za-z0-9._-], a letter or a digit first";
