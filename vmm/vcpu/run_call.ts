/**
 * KVM_RUN on a thread of the runtime's pool, so that a vCPU needs no JavaScript thread of its own: one
 * takes eight megabytes, a thread of the pool some kilobytes.
 *
 * An asynchronous FFI call loses two things that a vCPU's owner needs: errno, which belongs to the
 * thread, and which thread it is, to be kicked. And a paused vCPU that waits in JavaScript goes on
 * late: two threads have to wake up one after the other. So what is called is not ioctl(2) of the C
 * library but the few instructions below, which wait and make the system calls themselves.
 *
 * @module
 */
import { EINTR } from "../../ffi/errno.ts";
import { FUTEX_WAIT_PRIVATE, SYS_FUTEX } from "../../ffi/futex.ts";
import { KVM_RUN } from "../../ffi/uapi/kvm.ts";
import { dword, mapInstructions } from "../machine_code.ts";
import { CLOCK_MONOTONIC, Command, State, WORDS } from "./vcpu_control.ts";

/** asm/unistd_64.h */
const SYS = { ioctl: 16, gettid: 186, futex: SYS_FUTEX, clock_gettime: 228 } as const;

const syscall = (number: number) => [0xb8, ...dword(number), 0x0f, 0x05]; // mov eax, number; syscall

/** Skips the instructions when the flags say so; `opcode` of a conditional jump by a byte. */
function unless(opcode: number, instructions: readonly number[]): number[] {
  return [opcode, instructions.length, ...instructions];
}

const JE = 0x74;
const JNE = 0x75;

const NOTE_ENTRY = [
  ...[0xbf, ...dword(CLOCK_MONOTONIC)], // mov edi, CLOCK_MONOTONIC
  ...[0x49, 0x8d, 0x74, 0x24, WORDS.enteredAt], // lea rsi, [r12 + enteredAt]
  ...syscall(SYS.clock_gettime),
];

const ENTER_GUEST = [
  ...[0x89, 0xdf], // mov edi, ebx
  ...[0xbe, ...dword(KVM_RUN.request)], // mov esi, KVM_RUN
  ...[0x31, 0xd2], // xor edx, edx
  ...syscall(SYS.ioctl),
];

const SLEEP = [
  ...[0x49, 0x8d, 0x7c, 0x24, WORDS.command], // lea rdi, [r12 + command]
  ...[0xbe, ...dword(FUTEX_WAIT_PRIVATE)], // mov esi, FUTEX_WAIT_PRIVATE
  ...[0xba, ...dword(Command.Pause)], // mov edx, Pause
  ...[0x45, 0x31, 0xd2], // xor r10d, r10d: without a time limit
  ...syscall(SYS.futex),
];

const LOOK = [
  ...[0x41, 0x8b, 0x44, 0x24, WORDS.command], // mov eax, [r12 + command]
  ...[0x83, 0xf8, Command.Pause], // cmp eax, Pause
];
/** Sleeps until there is another command, which is in eax then. */
const WAIT = [
  ...LOOK,
  ...unless(JNE, [...SLEEP, 0xeb, -(LOOK.length + 2 + SLEEP.length + 2) & 0xff]), // jmp LOOK
];

const GO_ON = [
  ...[0x41, 0x83, 0x7c, 0x24, WORDS.enteredAt, 0], // cmp dword [r12 + enteredAt], 0
  ...unless(JNE, NOTE_ENTRY),
  ...[0xb8, ...dword(State.Running)], // mov eax, Running
  ...[0x41, 0x87, 0x44, 0x24, WORDS.state], // xchg [r12 + state], eax: see ENTER
];

const LEAVE = [
  ...[0x41, 0xc7, 0x44, 0x24, WORDS.tid, ...dword(0)], // mov dword [r12 + tid], 0
  ...[0x41, 0x5c], // pop r12
  0x5b, // pop rbx
  0xc3, // ret
];

/** What is done with a paused vCPU: wait, and then go on or leave. */
const PAUSED = [
  ...WAIT,
  ...[0x83, 0xf8, Command.Run], // cmp eax, Run
  ...unless(JE, [
    ...[0x48, 0xc7, 0xc0, ...dword(-EINTR)], // mov rax, -EINTR
    ...LEAVE,
  ]),
  ...GO_ON,
];

/**
 * `long enter(int fd, void *words)`: writes the thread's id to the words of a {@linkcode VcpuControl},
 * waits for another command if the vCPU is paused, runs KVM_RUN, writes 0 for the thread's id.
 *
 * System V x86-64 psABI, 3.2.1 and A.2.1: rbx and r12 belong to the caller; a system call takes its
 * number in rax and its arguments in rdi, rsi, rdx and r10, gives its result or `-errno` in rax, and
 * changes no other register but rcx and r11.
 *
 * The thread's id and the state Running are stored by XCHG, a full barrier (Intel SDM volume 3,
 * 9.2.3.9). With a plain store the processor could load the command (Run) and KVM immediate_exit (0)
 * first. A main thread that pauses meanwhile would load the id (0) and send no signal, or load the
 * state (Paused) and take a vCPU for paused that enters the guest.
 */
const ENTER = Uint8Array.of(
  0x53, // push rbx
  ...[0x41, 0x54], // push r12
  ...[0x89, 0xfb], // mov ebx, edi
  ...[0x49, 0x89, 0xf4], // mov r12, rsi
  ...syscall(SYS.gettid),
  ...[0x41, 0x87, 0x44, 0x24, WORDS.tid], // xchg [r12 + tid], eax
  ...[0x41, 0x83, 0x7c, 0x24, WORDS.state, State.Paused], // cmp dword [r12 + state], Paused
  ...unless(JNE, PAUSED),
  ...ENTER_GUEST,
  ...LEAVE,
);

const SIGNATURE = {
  parameters: ["i32", "pointer"],
  result: "i64",
  nonblocking: true,
} as const satisfies Deno.ForeignFunction;

/**
 * Runs a vCPU until it leaves the guest; one that is paused, when it shall run again.
 *
 * @param fd of the vCPU
 * @param words of its {@linkcode VcpuControl}
 * @returns what KVM_RUN returns, or `-errno`; `-EINTR` too when it shall not run again
 */
export type RunCall = (fd: number, words: Deno.PointerValue) => Promise<bigint>;

let code: bigint | undefined;

/** Where the instructions are, for {@linkcode runCall} in any thread of this process. */
export function runCallCode(): bigint {
  return code ??= mapInstructions(ENTER);
}

/**
 * The call.
 *
 * @param code address from {@linkcode runCallCode}
 */
export function runCall(code: bigint): RunCall {
  // SAFETY: ENTER is there, has this signature, and touches nothing but the words that it is given.
  const address = Deno.UnsafePointer.create(code) as Deno.PointerObject<typeof SIGNATURE>;
  const call = new Deno.UnsafeFnPointer(address, SIGNATURE);
  return (fd, words) => call.call(fd, words);
}
