/**
 * Commands that change an image: they run in a microVM, in an overlay over the image of which nothing
 * else is part, and what is in the overlay afterwards is a layer.
 *
 * @module
 */
import { create } from "@bufbuild/protobuf";
import { bounded, within } from "../agent/client/limits.ts";
import { COMMAND } from "../workload/languages.ts";
import { CloudletError } from "../base/errors.ts";
import {
  ExecuteRequest_Action as Action,
  ExecuteRequestSchema,
  type ExecuteResponse,
  ExecuteResponse_Stage as Stage,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { HOME } from "../builder/image/init.ts";
import type { ImageBudget } from "../builder/limits.ts";
import { asImageWants } from "./image_program.ts";
import type { HostMachine, HostMachineRequest } from "./host_machine.ts";
import { receiveLayer } from "./receive_layer.ts";

/** In the guest; of the microVM's own overlay, so it is gone with it. Any image has what is above. */
const DIRECTORY = `/${HOME}/changes`;
const TAIL = 2000; // characters of output that explain a failure
const LINE = 200; // characters of a line that tells how far the commands are
/** What the commands may say, and how long they may take. */
const OUTPUT = { messages: 4_000_000, bytes: 1 << 26, time: 4 * 3_600_000 };
// $0 is a static busybox, $1 the working directory, the rest are the commands. The root of the
// image is mounted anew: the one that this script sees has the agent's files in it.
const SCRIPT = `set -e
busybox=$0; directory=$1; shift
at=${DIRECTORY}
$busybox mkdir -p $at
$busybox mount -t tmpfs -o mode=755 tmpfs $at
$busybox mkdir $at/lower $at/upper $at/work $at/root
$busybox mount -t erofs -o ro /dev/pmem0 $at/lower
$busybox mount -t overlay overlay $at/root \\
  -o lowerdir=$at/lower,upperdir=$at/upper,workdir=$at/work,redirect_dir=off,metacopy=off
made=
for name in dev proc sys; do
  if [ -L $at/root/$name ] || [ ! -d $at/root/$name ]; then
    $busybox rm -rf $at/root/$name
    $busybox mkdir $at/root/$name
    made="$made $at/root/$name"
  fi
  $busybox mount --rbind /$name $at/root/$name
done
for command in "$@"; do
  echo "+ $command" >&2
  $busybox chroot $at/root /bin/sh -ec 'cd "$1" 2>/dev/null || cd /; eval "$2"' sh \\
    "$directory" "$command" </dev/null
done
for name in dev proc sys; do $busybox umount -l $at/root/$name; done
[ -z "$made" ] || $busybox rmdir $made
$busybox umount $at/root
`;

/**
 * Runs the commands as root in the image's environment and writes what they changed to a new file.
 *
 * @param machine booted from the image and used for nothing else
 * @param path of the layer, an uncompressed tar archive
 * @param budget what the layer may take; its signal ends the work early
 * @throws {CloudletError} `invalid-input` when a command fails, with what it said, or when the layer is
 *   larger than the budget
 */
export async function saveChanges(
  machine: Pick<HostMachine, "agent" | "program">,
  run: readonly string[],
  path: string,
  { memory, progress, signal: outer }: Pick<HostMachineRequest, "memory" | "progress" | "signal">,
  budget: ImageBudget,
): Promise<void> {
  const signal = AbortSignal.any([outer, budget.signal]);
  using task = progress.task("Run the image's commands");
  const { program } = machine;
  const busybox = program === undefined ? "/usr/bin/busybox" : `/${HOME}/busybox`;
  const words = [busybox, "sh", "-c", SCRIPT, busybox, program?.workingDir || "/", ...run];
  const request = create(ExecuteRequestSchema, {
    workloadName: "image",
    language: COMMAND,
    action: Action.PREPARE_AND_RUN,
    options: { args: words },
  });
  // The image's environment, but neither its command nor its user.
  const plain = program && { ...program, entrypoint: [], user: "", workingDir: "" };
  let said = "";
  let outcome: { code: number | undefined; message: string } | undefined;
  using deadline = within(signal, OUTPUT.time);
  const events = machine.agent.execute(asImageWants(request, plain), { signal: deadline.signal });
  const sizeOf = ({ stdout = "", stderr = "" }: ExecuteResponse) => stdout.length + stderr.length;
  for await (const event of bounded(events, OUTPUT, sizeOf)) {
    const text = (event.stdout ?? "") + (event.stderr ?? "");
    said = (said + text).slice(-TAIL);
    const line = text.trimEnd().split("\n").at(-1);
    if (line) task.note(line.slice(0, LINE));
    if (event.stage === Stage.DONE || event.stage === Stage.FAILED) {
      outcome = { code: event.exitCode, message: event.outcome?.message.slice(0, TAIL) ?? "" };
    }
  }
  if (outcome?.code !== 0) {
    const why = outcome?.message || `exit code ${outcome?.code}`;
    throw new CloudletError(
      `Cannot make the image: a command of it failed (${why})\n${said.trimEnd()}`,
      { code: "invalid-input", remedy: "correct [image] run" },
    );
  }
  await receiveLayer(machine, `${DIRECTORY}/upper`, path, memory, budget, outer);
  task.done();
}
