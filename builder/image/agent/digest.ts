/** SHA-256 of agent.js in hex; `deno task bundle` writes both. */
export const AGENT_SHA256 = "76ddb14cb7d9bfa5b4999ead075a6a5b1e0c2736a2e2ddba7172946542ff9a2c";
