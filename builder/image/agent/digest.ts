/** SHA-256 of agent.js in hex; `deno task bundle` writes both. */
export const AGENT_SHA256 = "71e9b4a10df22a560de500a71e0fd509b0554d98bcb1ea23f0196d03f5d63e8a";
