import assert from "node:assert/strict";
import { cpuidFor } from "../boot/cpu.ts";
import { hostKind } from "../kvm/host_probe.ts";
import { HOST_TRAITS } from "../host_traits.ts";
import { Kvm } from "../kvm/kvm.ts";
import { KVM_IDENTITY_MAP_ADDRESS, KVM_TSS_ADDRESS } from "../layout.ts";
import { prepareMachine, restoreMachine, saveMachine } from "./machine_state.ts";

const MSR_IA32_TSC = 0x10;

/** Where guests read the host's TSC there is nothing to set; without KVM nothing at all. */
function guestsHaveTsc(): boolean {
  try {
    using kvm = Kvm.open();
    return !HOST_TRAITS[hostKind(kvm)].hostTsc;
  } catch {
    return false;
  }
}

function machine(kvm: Kvm, stack: DisposableStack, count: number) {
  const vm = stack.use(kvm.createVm());
  vm.setRealModePages(KVM_TSS_ADDRESS, KVM_IDENTITY_MAP_ADDRESS);
  vm.createIrqchip();
  vm.createPit();
  const supported = kvm.supportedCpuid();
  const vcpus = Array.from({ length: count }, (_, id) => {
    const vcpu = stack.use(vm.createVcpu(id));
    vcpu.setCpuid(cpuidFor(supported, { id, count, tscDeadline: false }));
    return vcpu;
  });
  return { vm, vcpus };
}

Deno.test({
  name: "processors get the TSC that they had, and not one that is a second from it",
  ignore: !guestsHaveTsc(),
  fn() {
    using stack = new DisposableStack();
    const kvm = stack.use(Kvm.open());
    const from = machine(kvm, stack, 2);
    const second = BigInt(from.vcpus[0]!.getTscKhz()) * 1000n;
    const young = second / 2n; // of a guest that was saved soon after its start
    for (const value of [1000n * second, young]) { // the first is far away: see state.ts
      from.vcpus.forEach((vcpu) => vcpu.setMsrs([{ index: MSR_IA32_TSC, value }]));
    }
    const pieces = saveMachine(kvm, from.vm, from.vcpus);
    const to = machine(kvm, stack, 2);
    prepareMachine(to.vcpus);
    restoreMachine(to.vm, to.vcpus, pieces);
    for (const vcpu of to.vcpus) {
      const { value } = vcpu.getMsrs([MSR_IA32_TSC])[0]!;
      assert(value >= young && value < young + 100n * second, `${value}, not ${young}`);
    }
  },
});
