/** SHA-256 of agent.js in hex; `deno task bundle` writes both. */
export const AGENT_SHA256 = "4f2eb96d83918070aae6d3e015b0e74bb9d0f31e1fa69e1270d27ceee80d6122";
