/** SHA-256 of agent.js in hex; `deno task bundle` writes both. */
export const AGENT_SHA256 = "8a61a14681e9d4709197c58c281cebcf238d54345d462c709a8729f0e4385730";
