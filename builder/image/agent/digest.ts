/** SHA-256 of agent.js in hex; `deno task bundle` writes both. */
export const AGENT_SHA256 = "cca00c7528c8d213eb0a834c2e3788e215e8fbd4c00d4855104e2198a9f94bd9";
