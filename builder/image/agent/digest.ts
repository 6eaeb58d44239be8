/** SHA-256 of agent.js in hex; `deno task bundle` writes both. */
export const AGENT_SHA256 = "2d9f06baecad3880b7dc0054fe8de0b3f1087f0776c43c14054652b14f876c73";
