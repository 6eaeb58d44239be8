/** SHA-256 of agent.js in hex; `deno task bundle` writes both. */
export const AGENT_SHA256 = "7b089a44c7ab1ccade64028a0ac32da24015630c034bcf17046fba86b2aaf4b2";
