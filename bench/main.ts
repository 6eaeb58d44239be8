/**
 * All benchmarks, or those that are named: `deno task bench image erofs`.
 *
 * @module
 */
import { LineProgress } from "../cli/progress.ts";

const BENCHMARKS: Readonly<Record<string, () => Promise<void>>> = {
  async image() {
    await (await import("./image.ts")).benchImage();
  },
  async oci() {
    await (await import("./oci.ts")).benchOci();
  },
  async erofs() {
    await (await import("./erofs.ts")).benchErofs();
  },
  async vmm() {
    const { Builder } = await import("../builder/artifacts.ts");
    const builder = new Builder({ progress: new LineProgress() });
    const { benchVmm } = await import("./vmm.ts");
    const { vmlinux } = await builder.kernel();
    await benchVmm({ kernel: vmlinux, initramfs: await builder.initramfs() });
  },
  async devices() {
    const { Builder } = await import("../builder/artifacts.ts");
    const builder = new Builder({ progress: new LineProgress() });
    const { benchDevices } = await import("./devices.ts");
    await benchDevices({ kernel: (await builder.kernel()).vmlinux });
  },
  async snapshot() {
    await (await import("./snapshot.ts")).benchSnapshot();
  },
  async fork() {
    await (await import("./fork.ts")).benchFork();
  },
  async network() {
    await (await import("./network.ts")).benchNetwork();
  },
  async nic() {
    await (await import("./nic.ts")).benchNic();
  },
  async density() {
    await (await import("./density.ts")).benchDensity();
  },
};

const names = Deno.args.length > 0 ? Deno.args : Object.keys(BENCHMARKS);
for (const name of names) {
  const benchmark = BENCHMARKS[name];
  if (benchmark === undefined) {
    console.error(`There is no benchmark "${name}"; there are ${Object.keys(BENCHMARKS)}`);
    Deno.exit(2);
  }
  console.log(`# ${name}`);
  await benchmark();
}
