/** SHA-256 of agent.js in hex; `deno task bundle` writes both. */
export const AGENT_SHA256 = "e9875cd7568d61325713760f7bca1c4ef6083fd5ad8a3ceb46f25e3f9eb9eb78";
