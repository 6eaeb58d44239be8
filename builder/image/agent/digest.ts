/** SHA-256 of agent.js in hex; `deno task bundle` writes both. */
export const AGENT_SHA256 = "c4a4b82f94aa8a57a92b55073fdc9903346597a553061735133ac87bfb330c18";
