/** SHA-256 of agent.js in hex; `deno task bundle` writes both. */
export const AGENT_SHA256 = "cf698ec9ad89d675ea065bc6aa1b4ebabc005160eee4233e3e479d77ee10b1dd";
