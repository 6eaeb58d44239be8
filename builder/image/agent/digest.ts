/** SHA-256 of agent.js in hex; `deno task bundle` writes both. */
export const AGENT_SHA256 = "8c5a4a82bb48661324e4942dc5b9980e68c048db44b2c71ed451e28fd7d9a0fb";
