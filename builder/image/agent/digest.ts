/** SHA-256 of agent.js in hex; `deno task bundle` writes both. */
export const AGENT_SHA256 = "297c95c93a700c5de5cda23772411ca709196f08c781ac725632f900d43300fe";
