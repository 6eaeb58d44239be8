/** SHA-256 of agent.js in hex; `deno task bundle` writes both. */
export const AGENT_SHA256 = "fcf7293de6993b491589d5c479953314c21e90979fb1015228dcf496c3d51cf6";
