import assert from "node:assert/strict";
import { EBADF, EINTR } from "../../ffi/errno.ts";
import { installKick, kickThread } from "./kick.ts";
import { runCall, runCallCode } from "./run_call.ts";
import { Command, hostMillis, State, VcpuControl } from "./vcpu_control.ts";

/** KVM_RUN fails with EBADF there, which tells that it was called. */
const NO_FD = -1;

const enter = runCall(runCallCode());

/** A vCPU that is paused, on its thread. */
async function paused(): Promise<{ control: VcpuControl; result: Promise<bigint> }> {
  const control = new VcpuControl();
  control.state = State.Paused;
  const result = enter(NO_FD, control.address);
  while (control.tid === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  return { control, result };
}

/** Whether something happens within 50 ms. */
async function happens(what: Promise<unknown>): Promise<boolean> {
  const wait = new Promise((resolve) => setTimeout(resolve, 50, "nothing"));
  return await Promise.race([what, wait]) !== "nothing";
}

Deno.test("a paused vCPU waits, whoever interrupts it, and goes on when told so", async () => {
  installKick();
  const { control, result } = await paused();
  assert.notEqual(control.tid, Deno.pid); // of another thread
  kickThread(control.tid);
  control.command = Command.Pause;
  assert.equal(await happens(result), false);
  assert.deepEqual([control.state, control.enteredAt], [State.Paused, 0]);

  const before = hostMillis();
  control.command = Command.Run;
  assert.equal(await result, BigInt(-EBADF));
  assert.deepEqual([control.state, control.tid], [State.Running, 0]);
  assert.ok(control.enteredAt >= before && control.enteredAt <= hostMillis());
});

Deno.test("a paused vCPU that shall stop does not run", async () => {
  const { control, result } = await paused();
  control.command = Command.Stop;
  assert.equal(await result, BigInt(-EINTR));
  assert.deepEqual([control.state, control.tid, control.enteredAt], [State.Paused, 0, 0]);
});

Deno.test("a vCPU that is not paused runs, whatever its command is: an exit may be unfinished", async () => {
  const control = new VcpuControl();
  control.state = State.Running;
  assert.equal(await enter(NO_FD, control.address), BigInt(-EBADF));
  assert.deepEqual([control.state, control.tid], [State.Running, 0]);
});

Deno.test("the first entry is noted, and no other", async () => {
  const control = new VcpuControl();
  control.command = Command.Run;
  const enteredAt: number[] = [];
  for (let i = 0; i < 2; i++) {
    control.state = State.Paused;
    assert.equal(await enter(NO_FD, control.address), BigInt(-EBADF));
    enteredAt.push(control.enteredAt);
  }
  assert.ok(enteredAt[0]! > 0);
  assert.equal(enteredAt[1], enteredAt[0]);
});
