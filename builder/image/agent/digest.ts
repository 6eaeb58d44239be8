/** SHA-256 of agent.js in hex; `deno task bundle` writes both. */
export const AGENT_SHA256 = "274734c0538d47e36cb649ba8b37d95e84a3d5add0a9564058a39436e5caf210";
