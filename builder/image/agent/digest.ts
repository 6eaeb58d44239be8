/** SHA-256 of agent.js in hex; `deno task bundle` writes both. */
export const AGENT_SHA256 = "168c42c31c2b9f11bf095857cfd5b0b8e4b7947c2d3f179008c9b442b08dcf62";
