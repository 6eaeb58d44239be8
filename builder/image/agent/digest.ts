/** SHA-256 of agent.js in hex; `deno task bundle` writes both. */
export const AGENT_SHA256 = "5b70cecf2a95b523888d9691c73814f41b37395c1d1091d70f75cf15db8bb301";
