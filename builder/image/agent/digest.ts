/** SHA-256 of agent.js in hex; `deno task bundle` writes both. */
export const AGENT_SHA256 = "c748c19caee808018be6261f6cb5047b8eda7205ca1baf154653d3597f04d5f8";
