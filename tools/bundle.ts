/**
 * `deno task bundle`: writes the agent's bundle and its digest to where they are loaded from.
 *
 * @module
 */
import { writeFileAtomic } from "../base/files.ts";
import { bundleAgent } from "./agent_bundle.ts";

/** Where the bundle is. */
export const BUNDLE = new URL("../builder/image/agent/agent.js", import.meta.url);
/** Where its digest is. */
export const DIGEST = new URL("../builder/image/agent/digest.ts", import.meta.url);

/** The module that holds a digest. */
export function digestModule(sha256: string): string {
  return `/** SHA-256 of agent.js in hex; \`deno task bundle\` writes both. */
export const AGENT_SHA256 = ${JSON.stringify(sha256)};
`;
}

if (import.meta.main) {
  const { code, sha256 } = await bundleAgent();
  await writeFileAtomic(BUNDLE.pathname, code);
  await writeFileAtomic(DIGEST.pathname, digestModule(sha256));
  console.log(`${code.length} bytes, SHA-256 ${sha256}`);
}
