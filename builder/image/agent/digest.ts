/** SHA-256 of agent.js in hex; `deno task bundle` writes both. */
export const AGENT_SHA256 = "4355e41e839abbc9b2369474bb1d18030d0b17f2296ae94e140f10c5cb3db410";
