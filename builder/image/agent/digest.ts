/** SHA-256 of agent.js in hex; `deno task bundle` writes both. */
export const AGENT_SHA256 = "5e1f31b3222685ac134466835fa2ff1142b987bdcc65f5595309ee2c5740e5db";
