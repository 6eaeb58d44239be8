/** SHA-256 of agent.js in hex; `deno task bundle` writes both. */
export const AGENT_SHA256 = "e2633e9a421608123ba47d74ffc2d32d507606de30eb9ee8a76b3dec502c96e2";
