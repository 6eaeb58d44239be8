import assert from "node:assert/strict";
import fc from "fast-check";
import { next, type VmAction, type VmEvent, type VmState, type Wanted } from "./vm_state.ts";

/** States by a short name. */
const STATES: Readonly<Record<string, VmState>> = {
  fresh: { kind: "fresh" },
  restored: { kind: "restored" },
  running: { kind: "running" },
  paused: { kind: "paused" },
  "stopping>paused": { kind: "stopping", wanted: "paused", look: false },
  "stopping>running": { kind: "stopping", wanted: "running", look: false },
  "stopping+look>paused": { kind: "stopping", wanted: "paused", look: true },
  "stopping+look>running": { kind: "stopping", wanted: "running", look: true },
  "looking>paused": { kind: "looking", wanted: "paused", again: false },
  "looking>running": { kind: "looking", wanted: "running", again: false },
  "looking+look>paused": { kind: "looking", wanted: "paused", again: true },
  "looking+look>running": { kind: "looking", wanted: "running", again: true },
  "saving<fresh": { kind: "saving", from: "fresh" },
  "saving<restored": { kind: "saving", from: "restored" },
  "saving<paused": { kind: "saving", from: "paused" },
  ended: { kind: "ended" },
};

const EVENTS: readonly VmEvent[] = [
  ...["restore", "resume", "pause", "look", "save", "end", "stopped", "looked", "saved"] as const,
];

/** Every edge: event, to which state, with which actions. What is not named is refused. */
const EDGES: Readonly<Record<string, readonly string[]>> = {
  fresh: ["restore restored", "resume running run", "look fresh skip-look", "save saving<fresh"],
  restored: ["resume running run", "look restored skip-look", "save saving<restored"],
  paused: ["resume running run", "look paused skip-look", "save saving<paused"],
  running: [
    "resume running",
    "pause stopping>paused stop",
    "look stopping+look>running stop",
  ],
  "stopping>paused": [
    "resume stopping>running superseded",
    "pause stopping>paused",
    "look stopping+look>paused",
    "stopped paused paused",
  ],
  "stopping>running": [
    "resume stopping>running",
    "pause stopping>paused",
    "look stopping+look>running",
    "stopped running run",
  ],
  "stopping+look>paused": [
    "resume stopping+look>running superseded",
    "pause stopping+look>paused",
    "look stopping+look>paused",
    "stopped looking>paused look",
  ],
  "stopping+look>running": [
    "resume stopping+look>running",
    "pause stopping+look>paused",
    "look stopping+look>running",
    "stopped looking>running look",
  ],
  "looking>paused": [
    "resume looking>running superseded",
    "pause looking>paused",
    "look looking+look>paused",
    "looked paused paused",
  ],
  "looking>running": [
    "resume looking>running",
    "pause looking>paused",
    "look looking+look>running",
    "looked running go-on",
  ],
  "looking+look>paused": [
    "resume looking+look>running superseded",
    "pause looking+look>paused",
    "look looking+look>paused",
    "looked looking>paused look",
  ],
  "looking+look>running": [
    "resume looking+look>running",
    "pause looking+look>paused",
    "look looking+look>running",
    "looked looking>running look",
  ],
  ...Object.fromEntries(["fresh", "restored", "paused"].map((from) => [
    `saving<${from}`,
    [`saved ${from}`, "resume running run", `look saving<${from} skip-look`],
  ])),
  ended: [
    ...["pause ended paused", "look ended skip-look"],
    ...["resume", "end", "stopped", "looked", "saved"].map((event) => `${event} ended`),
  ],
};

/** The same for every state that is none of `ended`. */
const ALWAYS = ["end ended paused skip-look"];
/** A pause of vCPUs that stand still is done at once. */
const STILL = ["fresh", "restored", "paused", "saving<fresh", "saving<restored", "saving<paused"];

Deno.test("every event in every state leads where the table says, or is refused", () => {
  for (const [name, state] of Object.entries(STATES)) {
    const edges = [
      ...EDGES[name]!,
      ...(name === "ended" ? [] : ALWAYS),
      ...(STILL.includes(name) ? [`pause ${name} paused`] : []),
      ...(name === "ended" || name.startsWith("saving") ? [] : [`saved ${name}`]),
    ];
    const table = new Map(edges.map((edge) => {
      const [event, to, ...actions] = edge.split(" ");
      return [event, { state: STATES[to!]!, actions }];
    }));
    assert.equal(table.size, edges.length, name);
    for (const event of EVENTS) {
      const expected = table.get(event) ?? { state, actions: ["refuse"] };
      assert.deepEqual(next(state, event), expected, `${event} in ${name}`);
    }
  }
});

/** A VM as its callers see it, with vCPUs that take their time; written without the states. */
class Model {
  vcpus: "still" | "stopping" | "running" = "still";
  wanted: Wanted = "paused";
  ended = false;
  /** Pauses that were not answered. */
  pausers = 0;
  lookers = 0;
  looking = false;

  act(action: VmAction): void {
    switch (action) {
      case "run":
      case "go-on":
        assert.equal(this.vcpus, "still", "vCPUs that run are told to run");
        assert.equal(this.wanted, "running", "nobody wants it to run");
        assert(!this.ended && !this.looking);
        this.vcpus = "running";
        break;
      case "stop":
        assert.equal(this.vcpus, "running", "vCPUs that do not run are told to stop");
        this.vcpus = "stopping";
        break;
      case "look":
        assert.equal(this.vcpus, "still", "a look at vCPUs that run");
        assert(this.lookers > 0, "nobody wants to look");
        this.lookers = 0;
        this.looking = true;
        break;
      case "skip-look":
        assert(this.ended || this.wanted === "paused", "a look at a VM that runs is left out");
        this.lookers = 0;
        break;
      case "paused":
        assert(this.ended || this.vcpus === "still" && this.wanted === "paused", "not paused");
        this.pausers = 0;
        break;
      case "superseded":
        assert.equal(this.wanted, "running", "nobody has resumed it");
        this.pausers = 0;
        break;
    }
  }
}

Deno.test("whoever asks for what, and when: the last one is obeyed, and everybody gets an answer", () => {
  const asked = fc.constantFrom<VmEvent>("resume", "pause", "look", "resume", "pause", "end");
  const happens = fc.constantFrom("asked", "asked", "vcpus", "looked");
  fc.assert(
    fc.property(fc.array(fc.tuple(happens, asked), { maxLength: 60 }), (steps) => {
      const model = new Model();
      let state: VmState = { kind: "fresh" };
      const on = (event: VmEvent) => {
        const step = next(state, event);
        state = step.state;
        step.actions.forEach((action) => model.act(action));
      };
      /** What was begun comes to its end. */
      const goOn = (what: string) => {
        if (what === "vcpus" && model.vcpus === "stopping") {
          model.vcpus = "still";
          on("stopped");
        } else if (what === "looked" && model.looking) {
          model.looking = false;
          on("looked");
        }
      };
      for (const [what, event] of steps) {
        if (what !== "asked") {
          goOn(what);
          continue;
        }
        if (event === "pause") model.pausers++;
        if (event === "look") model.lookers++;
        if (event === "end") model.ended = true;
        if (!model.ended && (event === "resume" || event === "pause")) {
          model.wanted = event === "resume" ? "running" : "paused";
        }
        on(event);
      }
      for (let i = 0; i < 6; i++) ["vcpus", "looked"].forEach(goOn);
      assert.deepEqual([model.pausers, model.lookers, model.looking], [0, 0, false]);
      if (model.ended) return assert.deepEqual(state, { kind: "ended" });
      const { kind }: { readonly kind: string } = state;
      assert.equal(kind === "running", model.wanted === "running");
      assert.equal(model.vcpus, model.wanted === "running" ? "running" : "still");
    }),
    { numRuns: 2000 },
  );
});
