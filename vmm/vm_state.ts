/**
 * The states of a VM: events in, the next state and what is to be done out. It does nothing itself.
 *
 * ```text
 * fresh ─restore→ restored ─resume→ running ─pause, look→ stopping ─stopped→ paused
 *   └───────────── resume ─────────────↑ ↑                  └─stopped→ looking ─looked→ running, paused
 *                                        └─ resume ─ paused, saving
 * fresh, restored, paused ─save→ saving ─saved→ what it was          any ─end→ ended
 * ```
 *
 * @module
 */

/** What a VM goes back to when its vCPUs stand still for a moment only. */
export type Wanted = "running" | "paused";

/** Where a VM is. */
export type VmState =
  /** Paused, and it has never run. */
  | { readonly kind: "fresh" }
  /** As fresh, with the guest of a snapshot in it. */
  | { readonly kind: "restored" }
  | { readonly kind: "running" }
  /** Its vCPUs were told to stop; then they are looked at, if `look`. The last caller is obeyed. */
  | { readonly kind: "stopping"; readonly wanted: Wanted; readonly look: boolean }
  /** Its vCPUs stand still and are looked at; once more, if somebody asks meanwhile. */
  | { readonly kind: "looking"; readonly wanted: Wanted; readonly again: boolean }
  | { readonly kind: "paused" }
  /** Its state is read. */
  | { readonly kind: "saving"; readonly from: "fresh" | "restored" | "paused" }
  | { readonly kind: "ended" };

/** What happens to a VM: what callers ask for, and what was done. */
export type VmEvent =
  | "restore"
  | "resume"
  | "pause"
  | "look"
  | "save"
  | "end"
  /** All vCPUs stand still, after `stop`. */
  | "stopped"
  /** Follows `look`. */
  | "looked"
  /** The state was read, or could not be. */
  | "saved";

/** What is to be done. */
export type VmAction =
  /** Let the vCPUs run: a caller resumed the VM. */
  | "run"
  /** Let them go on after a look. */
  | "go-on"
  /** Have them stop; `stopped` follows. */
  | "stop"
  /** Look at them; `looked` follows. */
  | "look"
  /** There is nothing to look at: the VM does not run. */
  | "skip-look"
  /** Answer those who paused: it is paused, or has ended. */
  | "paused"
  /** Answer those who paused: the VM was resumed meanwhile. */
  | "superseded"
  /** The VM cannot do it as it is. */
  | "refuse";

/** A state and what is to be done in it, in this order. */
export interface Step {
  readonly state: VmState;
  readonly actions: readonly VmAction[];
}

const RUNNING: VmState = { kind: "running" };
const PAUSED: VmState = { kind: "paused" };
const ENDED: VmState = { kind: "ended" };

function step(state: VmState, ...actions: VmAction[]): Step {
  return { state, actions };
}

/** The vCPUs stand still and stay so until somebody resumes the VM. */
function still(
  state: Extract<VmState, { readonly kind: "fresh" | "restored" | "paused" }>,
  event: VmEvent,
): Step {
  switch (event) {
    case "resume":
      return step(RUNNING, "run");
    case "pause":
      return step(state, "paused");
    case "look":
      return step(state, "skip-look");
    case "save":
      return step({ kind: "saving", from: state.kind });
    default:
      return step(state, "refuse");
  }
}

function running(state: VmState, event: VmEvent): Step {
  switch (event) {
    case "resume":
      return step(state);
    case "pause":
      return step({ kind: "stopping", wanted: "paused", look: false }, "stop");
    case "look":
      return step({ kind: "stopping", wanted: "running", look: true }, "stop");
    default:
      return step(state, "refuse");
  }
}

/** What callers ask for while the vCPUs stand still for a moment: the last one is obeyed. */
function asked(
  state: Extract<VmState, { readonly wanted: Wanted }>,
  event: VmEvent,
): Step {
  switch (event) {
    case "resume":
      return state.wanted === "running"
        ? step(state)
        : step({ ...state, wanted: "running" }, "superseded");
    case "pause":
      return step({ ...state, wanted: "paused" });
    default:
      return step(state, "refuse");
  }
}

function settled(wanted: Wanted, go: "run" | "go-on"): Step {
  return wanted === "running" ? step(RUNNING, go) : step(PAUSED, "paused");
}

function saving(state: Extract<VmState, { readonly kind: "saving" }>, event: VmEvent): Step {
  switch (event) {
    case "resume":
      return step(RUNNING, "run"); // what was read so far is of no use
    case "pause":
      return step(state, "paused");
    case "look":
      return step(state, "skip-look");
    case "saved":
      return step({ kind: state.from });
    default:
      return step(state, "refuse");
  }
}

function ended(event: VmEvent): Step {
  switch (event) {
    case "pause":
      return step(ENDED, "paused");
    case "look":
      return step(ENDED, "skip-look");
    case "save":
    case "restore":
      return step(ENDED, "refuse");
    default:
      return step(ENDED);
  }
}

/**
 * What follows from an event.
 *
 * @param state of a VM
 * @param event `stopped` and `looked` only once for each action that they follow, if it has not ended
 * @returns the next state; with `refuse` among the actions it is the same
 */
export function next(state: VmState, event: VmEvent): Step {
  if (state.kind === "ended") return ended(event);
  if (event === "end") return step(ENDED, "paused", "skip-look");
  // A save that was overtaken by a resume has nothing to go back to.
  if (event === "saved" && state.kind !== "saving") return step(state);
  switch (state.kind) {
    case "fresh":
      return event === "restore" ? step({ kind: "restored" }) : still(state, event);
    case "restored":
    case "paused":
      return still(state, event);
    case "running":
      return running(state, event);
    case "stopping": {
      if (event === "look") return step({ ...state, look: true });
      if (event !== "stopped") return asked(state, event);
      if (state.look) {
        return step({ kind: "looking", wanted: state.wanted, again: false }, "look");
      }
      return settled(state.wanted, "run");
    }
    case "looking":
      if (event === "look") return step({ ...state, again: true });
      if (event !== "looked") return asked(state, event);
      return state.again
        ? step({ ...state, again: false }, "look")
        : settled(state.wanted, "go-on");
    case "saving":
      return saving(state, event);
    default:
      return state satisfies never;
  }
}
