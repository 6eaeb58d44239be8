/**
 * The house's own rules for `deno lint`: those that are cheap and certain.
 *
 * @module
 */
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/**
 * What each part may import, besides itself: imports point downwards. The longest key that a path
 * begins with is its part.
 */
const LAYERS: Readonly<Record<string, readonly string[]>> = {
  "mod.ts": ["cli", "api", "workload", "base"],
  "offline.ts": ["cli", "api", "service", "node", "vmm", "builder", "workload", "base"],
  cli: ["api", "service", "node", "vmm", "builder", "workload", "ffi", "base", "deno.json"],
  api: ["service", "builder", "workload", "proto", "base"],
  service: ["node", "builder", "workload", "agent/client", "proto", "base"],
  node: ["vmm", "builder", "workload", "agent/client", "proto", "base"],
  vmm: ["ffi", "base"],
  builder: ["workload", "ffi", "base"],
  "agent/client": ["workload", "proto", "base"],
  agent: ["workload", "proto", "base"], // it runs in the guest
  workload: ["proto", "base"],
  ffi: ["base"],
  proto: [],
  base: [],
};

/** Most lines of a file. */
const MOST_LINES = 450;
/** Most lines of a file whose head gives no reason for more. */
const USUAL_LINES = 400;

/** Lines above a use of a raw pointer in which its `SAFETY:` must be. */
const REACH = 5;

/** A file's path below the root, with slashes; undefined for what is not of the house. */
function pathOf(filename: string): string | undefined {
  const path = relative(ROOT, filename);
  return /^(\.\.|examples)\//.test(path) ? undefined : path;
}

/** The part of {@linkcode LAYERS} that a path belongs to. */
function partOf(path: string): string {
  const keys = Object.keys(LAYERS).filter((key) => path === key || path.startsWith(`${key}/`));
  return keys.sort((a, b) => b.length - a.length)[0] ?? path.split("/")[0]!;
}

/** What only tests may use. */
function isForTests(path: string): boolean {
  return /(^|[_/])(test|testing)\.ts$/.test(path) || /^(test|bench|lint|tools)\//.test(path) ||
    path === "vmm/virtio/compliance.ts";
}

type Reported = Deno.lint.Node;

function checkImport(context: Deno.lint.RuleContext, node: Reported, specifier: string): void {
  const from = pathOf(context.filename);
  if (from === undefined || isForTests(from) || !specifier.startsWith(".")) return;
  const to = join(dirname(from), specifier);
  const [part, other] = [partOf(from), partOf(to)];
  const allowed = LAYERS[part];
  if (isForTests(to)) {
    context.report({ node, message: `${to} is for tests`, hint: "move what is needed out of it" });
  } else if (allowed === undefined) {
    const hint = "name it in LAYERS of lint/plugin.ts";
    context.report({ node, message: `Nothing says whom ${part} may import`, hint });
  } else if (part !== other && !allowed.includes(other)) {
    const message = `${part} may not import ${other}: imports point downwards`;
    context.report({ node, message, hint: `it may import ${allowed.join(", ") || "nothing"}` });
  }
}

const layers: Deno.lint.Rule = {
  create: (context) => ({
    ImportDeclaration: (node) => checkImport(context, node, node.source.value),
    ExportNamedDeclaration(node) {
      if (node.source !== null) checkImport(context, node, node.source.value);
    },
    ExportAllDeclaration: (node) => checkImport(context, node, node.source.value),
    ImportExpression(node) {
      const { source } = node;
      if (source.type !== "Literal" || typeof source.value !== "string") return;
      checkImport(context, node, source.value);
      const path = pathOf(context.filename) ?? "test.ts";
      if (!source.value.startsWith(".") || isForTests(path) || path === "offline.ts") return;
      context.report({
        node,
        message: "Deno would load the graph behind this import before the program begins",
        hint: "use lazyImport of base/lazy_import.ts, and name the module in offline.ts",
      });
    },
    CallExpression(node) {
      const { callee, arguments: [specifier] } = node;
      if (callee.type !== "Identifier" || callee.name !== "lazyImport") return;
      if (specifier?.type !== "Literal" || typeof specifier.value !== "string") return;
      checkImport(context, node, specifier.value);
      const type = `typeof import(${JSON.stringify(specifier.value)})`;
      if (context.sourceCode.getText(node).includes(type)) return;
      context.report({ node, message: `The type of what is imported is not ${type}` });
    },
  }),
};

/** Whether a node is `Deno.` and a name that the pattern fits. */
function isOfDeno(node: Deno.lint.MemberExpression, names: RegExp): boolean {
  const { object, property } = node;
  return object.type === "Identifier" && object.name === "Deno" && property.type === "Identifier" &&
    names.test(property.name);
}

const safetyComment: Deno.lint.Rule = {
  create: (context) => ({
    MemberExpression(node) {
      if (!isOfDeno(node, /^Unsafe/)) return;
      const before = context.sourceCode.text.slice(0, node.range[0]).split("\n");
      if (before.slice(-1 - REACH).some((line) => line.includes("// SAFETY:"))) return;
      context.report({
        node,
        message: "A use of a raw pointer has no comment that says why it is safe",
        hint: `write "// SAFETY: ..." at most ${REACH} lines above`,
      });
    },
  }),
};

const FUNCTIONS = new Set([
  "FunctionDeclaration",
  "FunctionExpression",
  "ArrowFunctionExpression",
]);

const lazyDlopen: Deno.lint.Rule = {
  create: (context) => ({
    CallExpression(node) {
      const { callee } = node;
      if (callee.type !== "MemberExpression" || !isOfDeno(callee, /^dlopen$/)) return;
      const inside = context.sourceCode.getAncestors(node).some(({ type }) => FUNCTIONS.has(type));
      if (inside) return;
      context.report({
        node,
        message: "A library is opened when the module is imported",
        hint: "open it in a function, when it is first needed",
      });
    },
  }),
};

/** The text that an expression begins with; undefined when that cannot be seen here. */
function beginningOf(node: Deno.lint.Node | undefined): string | undefined {
  switch (node?.type) {
    case "Literal":
      return typeof node.value === "string" ? node.value : undefined;
    case "TemplateLiteral":
      return node.quasis[0]?.cooked || (node.expressions.length > 0 ? undefined : "");
    case "BinaryExpression":
      return node.left.type === "PrivateIdentifier" ? undefined : beginningOf(node.left);
    default:
      return undefined;
  }
}

const errorMessage: Deno.lint.Rule = {
  create: (context) => ({
    NewExpression(node) {
      const { callee } = node;
      if (isForTests(pathOf(context.filename) ?? "test.ts")) return;
      if (callee.type !== "Identifier" || callee.name !== "CloudletError") return;
      const text = beginningOf(node.arguments[0]);
      if (text === undefined || text.startsWith("Cannot ")) return;
      context.report({
        node,
        message: "The message does not begin with what could not be done",
        hint: 'write "Cannot <do> <what>: <why>"',
      });
    },
  }),
};

const commandOutput: Deno.lint.Rule = {
  create: (context) => ({
    MemberExpression(node) {
      const path = pathOf(context.filename) ?? "";
      if (!path.startsWith("cli/") || path === "cli/output.ts" || isForTests(path)) return;
      const { object, property } = node;
      const isConsole = object.type === "Identifier" && object.name === "console";
      const writes = object.type === "MemberExpression" && isOfDeno(object, /^std(out|err)$/) &&
        property.type === "Identifier" && property.name.startsWith("write");
      if (!isConsole && !writes) return;
      context.report({
        node,
        message: "A command writes past cli/output.ts",
        hint: "a reader that has gone or a full disk would end it with a stack trace",
      });
    },
  }),
};

const fileName: Deno.lint.Rule = {
  create: (context) => ({
    Program(node) {
      const name = context.filename.slice(context.filename.lastIndexOf("/") + 1);
      if (/^[a-z0-9]+(_[a-z0-9]+)*(\.d)?\.(cjs|[jt]s)$/.test(name)) return;
      context.report({ node, message: `The name ${name} is not in snake_case` });
    },
  }),
};

const fileLength: Deno.lint.Rule = {
  create: (context) => ({
    Program(node) {
      const { text } = context.sourceCode;
      const lines = text.trimEnd().split("\n").length;
      const head = text.slice(0, text.indexOf("*/") + 1);
      const most = /\blong because\b/.test(head) ? MOST_LINES : USUAL_LINES;
      if (lines <= most) return;
      context.report({
        node,
        message: `The file has ${lines} lines, at most ${most} are allowed`,
        hint: most < MOST_LINES
          ? `split it by its jobs, or say in its head "long because ..." (at most ${MOST_LINES})`
          : "split it by its jobs",
      });
    },
  }),
};

const plugin: Deno.lint.Plugin = {
  name: "cloudlet",
  rules: {
    layers,
    "safety-comment": safetyComment,
    "lazy-dlopen": lazyDlopen,
    "error-message": errorMessage,
    "command-output": commandOutput,
    "file-length": fileLength,
    "file-name": fileName,
  },
};
export default plugin;
