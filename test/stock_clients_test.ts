/**
 * Clients that nobody here wrote, against a whole service: grpc-js with the first cloudlet's .proto
 * files, curl, an EventSource, connect-web's protocols.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import grpc from "@grpc/grpc-js";
import { fromJSON, loadSync } from "@grpc/proto-loader";
import { EventSource } from "eventsource";
import { Keys, newKey } from "../api/http/keys.ts";
import { VmmService } from "../proto/gen/vmmorchestrator/vmm_pb.ts";
import { testService } from "./service.ts";

const PROTOS = fileURLToPath(new URL("./fixtures/original/", import.meta.url));

interface OriginalResponse {
  stage: string;
  stdout?: string;
  stderr?: string;
  exit_code?: number;
}

/** The client that the first cloudlet's users have. */
function originalClient(port: number) {
  const definition = loadSync(`${PROTOS}/vmm.proto`, {
    keepCase: true,
    enums: String,
    defaults: true,
  });
  // deno-lint-ignore no-explicit-any -- grpc-js makes the classes at run time
  const { VmmService } = grpc.loadPackageDefinition(definition).vmmorchestrator as any;
  return new VmmService(`localhost:${port}`, grpc.credentials.createInsecure());
}

function grpcRun(
  // deno-lint-ignore no-explicit-any -- as above
  client: any,
  request: Record<string, unknown>,
  metadata = new grpc.Metadata(),
): Promise<OriginalResponse[]> {
  return new Promise((resolve, reject) => {
    const responses: OriginalResponse[] = [];
    const call = client.Run(request, metadata);
    call.on("data", (response: OriginalResponse) => responses.push(response));
    call.on("error", reject);
    call.on("end", () => resolve(responses));
  });
}

Deno.test("grpc-js with the first cloudlet's vmm.proto runs programs", async () => {
  await using test = await testService();
  const client = originalClient(test.service.vmm.port);
  try {
    const responses = await grpcRun(client, {
      workload_name: "hello",
      language: "PYTHON",
      code: "import sys\nprint('héllo')\nprint('oh', file=sys.stderr)\nsys.exit(4)",
      log_level: "INFO",
    });
    const program = responses.filter(({ stage }) => stage !== "DEBUG");
    equal(program[0]?.stage, "PENDING");
    equal(program.map(({ stdout }) => stdout ?? "").join(""), "héllo\n");
    equal(program.map(({ stderr }) => stderr ?? "").join(""), "oh\n");
    const last = program.at(-1)!;
    equal(last.stage, "DONE");
    equal(last.exit_code, 4);

    const refused = await grpcRun(client, { language: "PYTHON", workload_name: "x".repeat(300) })
      .catch((error) => error);
    equal(refused.code, grpc.status.INVALID_ARGUMENT);
    match(refused.details, /name is too long/);
  } finally {
    client.close();
  }
});

Deno.test("grpc-js: Shutdown ends a run, whose client is told", async () => {
  await using test = await testService();
  const client = originalClient(test.service.vmm.port);
  try {
    const shutdown = () =>
      new Promise<{ success: boolean }>((resolve, reject) =>
        client.Shutdown(
          {},
          (error: Error | null, response: { success: boolean }) =>
            error ? reject(error) : resolve(response),
        )
      );
    deepEqual(await shutdown(), { success: false });
    const started = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<OriginalResponse>();
    let last: OriginalResponse | undefined;
    const call = client.Run({
      language: "PYTHON",
      code: "print(1)\nimport time\ntime.sleep(1000)",
    });
    call.on("data", (response: OriginalResponse) => {
      last = response;
      if (response.stdout !== undefined) started.resolve();
    });
    call.on("error", ended.reject);
    call.on("end", () => ended.resolve(last!));
    await started.promise;
    deepEqual(await shutdown(), { success: true });
    const { stage, exit_code } = await ended.promise;
    deepEqual({ stage, exit_code }, { stage: "FAILED", exit_code: 137 });
  } finally {
    client.close();
  }
});

Deno.test("grpc-js: a client that cancels ends its run", async () => {
  await using test = await testService();
  const client = originalClient(test.service.vmm.port);
  try {
    const cancelled = Promise.withResolvers<{ code: number }>();
    const call = client.Run({
      language: "PYTHON",
      code: "print(1)\nimport time\ntime.sleep(1000)",
    });
    call.on("data", (response: OriginalResponse) => {
      if (response.stdout !== undefined) call.cancel();
    });
    call.on("error", cancelled.resolve);
    equal((await cancelled.promise).code, grpc.status.CANCELLED);
    await untilIdle(test.service.orchestrator);
  } finally {
    client.close();
  }
});

Deno.test("the first cloudlet's agent.proto still describes our agent's wire format", async () => {
  const ours = (await import("../proto/gen/cloudlet/agent/agent_pb.ts")).ExecuteResponseSchema;
  const { create, toBinary } = await import("@bufbuild/protobuf");
  const bytes = toBinary(ours, create(ours, { stage: 4, stdout: "é", stderr: "", exitCode: -7 }));
  const definition = loadSync(`${PROTOS}/agent.proto`, {
    keepCase: true,
    enums: String,
    defaults: true,
  });
  ok(fromJSON); // the loader's own decoder is behind the service's definition
  const service = definition["cloudlet.agent.WorkloadRunner"] as unknown as {
    Execute: { responseDeserialize(bytes: unknown): OriginalResponse };
  };
  const { Buffer } = await import("node:buffer");
  const { stage, stdout, stderr, exit_code } = service.Execute.responseDeserialize(
    Buffer.from(bytes),
  );
  deepEqual({ stage, stdout, stderr, exit_code }, {
    stage: "FAILED",
    stdout: "é",
    stderr: "",
    exit_code: -7,
  });
});

async function untilIdle(orchestrator: { readonly active: readonly string[] }): Promise<void> {
  while (orchestrator.active.length > 0) await new Promise((resolve) => setTimeout(resolve, 5));
}

const transports = {
  "Connect over HTTP/1.1": (baseUrl: string) =>
    createConnectTransport({ baseUrl, httpVersion: "1.1" }),
  "Connect over HTTP/2": (baseUrl: string) => createConnectTransport({ baseUrl, httpVersion: "2" }),
  "gRPC-Web over HTTP/1.1": (baseUrl: string) =>
    createGrpcWebTransport({ baseUrl, httpVersion: "1.1" }),
  "gRPC-Web over HTTP/2": (baseUrl: string) =>
    createGrpcWebTransport({ baseUrl, httpVersion: "2" }),
} as const;
for (const [name, transport] of Object.entries(transports)) {
  for (const port of name.endsWith("2") ? ["vmmUrl"] as const : ["vmmUrl", "url"] as const) {
    Deno.test({
      name: `${name} runs a program through ${port === "url" ? "the API's port" : "VmmService"}`,
      sanitizeResources: false, // connect-node keeps its connections for a while
      sanitizeOps: false,
      async fn() {
        await using test = await testService();
        const client = createClient(VmmService, transport(test[port]));
        let stdout = "";
        let exitCode: number | undefined;
        for await (
          const response of client.run({ language: 4, code: "echo hi; exit 5", logLevel: 3 })
        ) {
          stdout += response.stdout ?? "";
          exitCode = response.exitCode;
        }
        equal(stdout, "hi\n");
        equal(exitCode, 5);
      },
    });
  }
}

/** The body that the first cloudlet's command line sends. */
const ORIGINAL_BODY = {
  workload_name: "fibonacci",
  language: "python",
  code: "print(55)\nprint('done')",
  log_level: "info",
  action: "prepare-and-run",
  server: { address: "localhost", port: 3000 },
  build: { source_code_path: "/tmp/main.py", release: true },
};

Deno.test("curl -N sees the events of POST /run as they come", async () => {
  await using test = await testService();
  const { stdout, success } = await new Deno.Command("curl", {
    args: [
      ...["-sS", "-N", "--fail-with-body", "-X", "POST", `${test.url}/run`],
      ...["-H", "content-type: application/json", "-d", JSON.stringify(ORIGINAL_BODY)],
    ],
  }).output();
  const text = new TextDecoder().decode(stdout);
  ok(success, text);
  const events = text.trim().split("\n\n").map((event) => {
    const [, data] = /^id: \S+\ndata: ([^\n]+)$/.exec(event) ?? [];
    return JSON.parse(data!);
  });
  const { id, ...first } = events[0];
  match(id, /^[0-9a-f-]{36}$/);
  deepEqual(first, { stage: "Pending", stdout: null, stderr: null, exit_code: null });
  equal(events.map(({ stdout }) => stdout ?? "").join(""), "55\ndone\n");
  const last = events.at(-1);
  equal(last.stage, "Done");
  equal(last.exit_code, 0);
  ok(events.some(({ stage }) => stage === "Running"));
});

Deno.test("curl that is killed ends its run", async () => {
  await using test = await testService();
  const curl = new Deno.Command("curl", {
    args: [
      ...["-sS", "-N", "-X", "POST", `${test.url}/run`, "-H", "content-type: application/json"],
      ...["-d", JSON.stringify({ language: "bash", code: "echo go; sleep 1000" })],
    ],
    stdout: "piped",
  }).spawn();
  let seen = "";
  for await (const chunk of curl.stdout.pipeThrough(new TextDecoderStream())) {
    seen += chunk;
    if (seen.includes("go\\n")) curl.kill("SIGKILL");
  }
  await curl.status;
  await untilIdle(test.service.orchestrator);
  const { runs } = await (await fetch(`${test.url}/runs`)).json();
  equal(runs[0].outcome, "disconnected");
});

Deno.test("an EventSource reads the events of POST /run", async () => {
  await using test = await testService();
  const events: { stage: string; stdout: string | null; exit_code: number | null }[] = [];
  const source = new EventSource(`${test.url}/run`, {
    fetch: (url, init) =>
      fetch(url, {
        ...init,
        method: "POST",
        headers: { ...init.headers, "content-type": "application/json" },
        body: JSON.stringify(ORIGINAL_BODY),
      }),
  });
  const ended = Promise.withResolvers<void>();
  source.onmessage = ({ data }) => {
    const event = JSON.parse(data);
    events.push(event);
    if (event.stage === "Done" || event.stage === "Failed") {
      source.close();
      ended.resolve();
    }
  };
  source.onerror = (event) => ended.reject(new Error(event.message));
  await ended.promise;
  equal(events.map(({ stdout }) => stdout ?? "").join(""), "55\ndone\n");
  equal(events.at(-1)?.exit_code, 0);
});

Deno.test("with keys, each protocol wants one, and health does not", async () => {
  const { key, line } = newKey("alice");
  await using test = await testService({ keys: new Keys(["# keys", line]) });
  const authorization = `Bearer ${key}`;
  for (const path of ["/runs", "/metrics", "/logs/x", "/nowhere"]) {
    const response = await fetch(test.url + path);
    equal(response.status, 401);
    ok(response.headers.get("www-authenticate"));
    match((await response.json()).detail, /carries no API key/);
    const wrong = await fetch(test.url + path, { headers: { authorization: "Bearer clt_x" } });
    equal(wrong.status, 401);
    await wrong.body?.cancel();
  }
  equal(
    (await (await fetch(`${test.url}/runs`, { headers: { authorization } })).json()).runs.length,
    0,
  );
  equal((await (await fetch(`${test.url}/healthz`)).json()).status, "ok");
  const client = originalClient(test.service.vmm.port);
  try {
    const request = { language: "PYTHON", code: "print(1)" };
    const refused = await grpcRun(client, request).catch((error) => error);
    equal(refused.code, grpc.status.UNAUTHENTICATED);
    const metadata = new grpc.Metadata();
    metadata.set("authorization", authorization);
    equal((await grpcRun(client, request, metadata)).at(-1)?.exit_code, 0);
  } finally {
    client.close();
  }
});
