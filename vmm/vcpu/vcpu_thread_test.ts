import assert from "node:assert/strict";
import { EXIT, hasKvm, SPIN, TinyGuest } from "./tiny_guest_testing.ts";
import { HostedVcpu, type Vcpu, VcpuThread } from "./vcpu_thread.ts";

const ignore = !hasKvm();
const ROUNDS = 10_000;
/** Far more than the rounds take; a lost kick takes for ever. */
const DEADLINE = 180_000;

/** Waits without a timer, which would give the thread time to be well inside of KVM_RUN each time. */
function spin(microseconds: number): void {
  const end = performance.now() + microseconds / 1000;
  while (performance.now() < end) { /* on */ }
}

const RUNNERS: readonly [string, new (onSerialRoom: () => void) => Vcpu][] = [
  ["a thread of its own", VcpuThread],
  ["a shared thread", HostedVcpu],
];
const GUESTS = [["spins", SPIN], ["leaves KVM_RUN all the time", EXIT]] as const;

for (const [thread, Runner] of RUNNERS) {
  for (const [does, code] of GUESTS) {
    Deno.test({
      name: `no kick is lost: a guest that ${does}, on ${thread}, paused 10,000 times`,
      ignore,
      async fn() {
        await using guest = await TinyGuest.make(new Runner(() => {}), { code });
        const { vcpu } = guest;
        let round = 0;
        const rounds = (async () => {
          for (; round < ROUNDS; round++) {
            vcpu.resume();
            // The kick meets the thread asleep, on its way into the guest, inside, on its way out.
            spin(round % 64);
            await vcpu.pause();
          }
          return "done";
        })();
        const deadline = Promise.withResolvers<string>();
        const timer = setTimeout(deadline.resolve, DEADLINE, "a kick was lost");
        const ended = vcpu.ended.then(({ kind }) => kind);
        const how = await Promise.race([rounds, ended, deadline.promise]);
        clearTimeout(timer);
        if (how !== "done") guest.release(); // nothing else ends it now
        assert.equal(how, "done", `round ${round}`);
        assert.ok(vcpu.counts.kicks > 0);
      },
    });
  }
}
