/**
 * The whole program as one module graph: `deno cache jsr:@cloudlet/cli/offline` fetches all that any
 * command may load later. Without it, a command's modules are fetched when it is first used.
 *
 * @module
 */

/** What is loaded when it is needed; none of it is loaded by this module. */
export const modules: readonly (() => Promise<unknown>)[] = [
  () => import("./api/client/embedded.ts"),
  () => import("./api/client/remote.ts"),
  () => import("./api/http/serve.ts"),
  () => import("./api/library/run.ts"),
  () => import("./base/cache/upkeep.ts"),
  () => import("./base/settings.ts"),
  () => import("./base/shared_work.ts"),
  () => import("./builder/archive/decompress_worker.ts"),
  () => import("./builder/debian/debian.ts"),
  () => import("./builder/image/agent/agent.js", { with: { type: "text" } }),
  () => import("./builder/image/build_image.ts"),
  () => import("./builder/image/installed_packages.ts"),
  () => import("./builder/image/oci_image.ts"),
  () => import("./builder/oci/layer.ts"),
  () => import("./builder/oci/mirrors.ts"),
  () => import("./builder/oci/open.ts"),
  () => import("./builder/oci/policy.ts"),
  () => import("./builder/oci/unpack.ts"),
  () => import("./cli/app.ts"),
  () => import("./cli/boot.ts"),
  () => import("./cli/boot_command.ts"),
  () => import("./cli/cache.ts"),
  () => import("./cli/config.ts"),
  () => import("./cli/doctor.ts"),
  () => import("./cli/doctor_command.ts"),
  () => import("./cli/fork.ts"),
  () => import("./cli/image.ts"),
  () => import("./cli/kernel.ts"),
  () => import("./cli/main.ts"),
  () => import("./cli/ps.ts"),
  () => import("./cli/run.ts"),
  () => import("./cli/serve.ts"),
  () => import("./cli/snapshot.ts"),
  () => import("./cli/toml_position.ts"),
  () => import("./node/local_node.ts"),
  () => import("./node/microvms.ts"),
  () => import("./service/prepared.ts"),
  () => import("./service/workload.ts"),
  () => import("./vmm/device_thread/worker.ts"),
  () => import("./vmm/vcpu/vcpu_worker.ts"),
  () => import("./workload/cargo.ts"),
];
