/** SHA-256 of agent.js in hex; `deno task bundle` writes both. */
export const AGENT_SHA256 = "5c7b6c5e297f985c71be8bd95a14d73e16c6fd08dcade79ab85fedc2ef00ba13";
