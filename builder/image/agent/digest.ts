/** SHA-256 of agent.js in hex; `deno task bundle` writes both. */
export const AGENT_SHA256 = "18dc901e239d86836eec640173d4516b2788815cecb5c13df66e23a8fa886598";
