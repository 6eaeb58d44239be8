/** SHA-256 of agent.js in hex; `deno task bundle` writes both. */
export const AGENT_SHA256 = "18638589f12f9278ed2fb1177c13fe6f86d4144df658a09ec7c71d1352f5ba2d";
