/** SHA-256 of agent.js in hex; `deno task bundle` writes both. */
export const AGENT_SHA256 = "eb4ab5a3bb165bfa7324e0fedecdc421b54025535f567e05e16c44ac79b03323";
