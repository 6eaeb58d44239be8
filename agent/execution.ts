/**
 * An execution under way: its responses are taken by one client at a time, and it ends with its
 * client, unless it is held for another one.
 *
 * @module
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { CloudletError } from "../base/errors.ts";
import type { ExecuteResponseSchema } from "../proto/gen/cloudlet/agent/agent_pb.ts";
import type { Child } from "./child.ts";
import { SIGNAL_NUMBERS } from "./libc.ts";

/** One thing that happened. */
export type Response = MessageInitShape<typeof ExecuteResponseSchema>;

/** See the module. */
export class Execution {
  /** The process that runs for it now, if any. */
  child: Child | undefined;
  /** Why the agent ended it, if it did. */
  ended: "signal" | "timeout" | "gone" | undefined;
  /** The program, once it runs; undefined when it comes to nothing. */
  readonly started: PromiseWithResolvers<Child | undefined> = Promise.withResolvers();
  /** Whether a client feeds its standard input, or none may. */
  inputTaken: boolean;
  readonly #onEnd: () => void;
  #responses: AsyncGenerator<Response> | undefined;
  #pending: Promise<IteratorResult<Response>> | undefined;
  /** The client that it has now. */
  #taken: { readonly leave: () => void; readonly free: Promise<void> } | undefined;
  #over = false;
  /** Seconds for which it survives its client. */
  #patience = 0;
  #deadline: ReturnType<typeof setTimeout> | undefined;
  /** Looks again whether the client may get something. */
  #released = () => {};

  /**
   * @param id of it
   * @param stdinStream whether its standard input is fed by calls of Input
   * @param onEnd called once, when all is over
   */
  constructor(readonly id: string, stdinStream: boolean, onEnd: () => void) {
    this.inputTaken = !stdinStream;
    this.#onEnd = onEnd;
  }

  /** Whether it would survive its client now, or has survived one and waits for the next. */
  get held(): boolean {
    return this.#patience > 0 || this.#deadline !== undefined;
  }

  /** Starts the work, whose responses {@linkcode take} yields. */
  begin(responses: AsyncGenerator<Response>): void {
    this.#responses = responses;
  }

  /**
   * For how many seconds it waits for the next client when it loses this one; 0 for not at all. A client
   * of a held execution gets nothing until it is released: in a copy of the microVM it is gone already,
   * which shows later, and what it got would be lost.
   */
  hold(seconds: number): void {
    this.#patience = seconds;
    this.#released();
    if (this.#deadline === undefined) return;
    clearTimeout(this.#deadline); // the client left meanwhile
    if (seconds > 0) this.#wait();
    else void this.#abandon();
  }

  /** Ends what runs, since it has no client. */
  leave(): void {
    this.ended ??= "gone";
    this.child?.kill(SIGNAL_NUMBERS.KILL);
  }

  /**
   * Yields what happens until the end, or until the client leaves. A client of a held execution may
   * have left without a word, so the next one takes its place.
   *
   * @param abort tells that the client has left
   * @throws {CloudletError} `conflict` when it has a client and is not held, `not-found` when it is over
   */
  async *take(abort: AbortSignal): AsyncGenerator<Response> {
    if (this.#taken !== undefined) {
      if (!this.held) {
        throw new CloudletError(`Cannot take over the execution ${this.id}: it has a client`, {
          code: "conflict",
        });
      }
      this.#taken.leave();
      await this.#taken.free;
    }
    if (this.#over) {
      throw new CloudletError(`Cannot take over the execution ${this.id}: it has ended`, {
        code: "not-found",
      });
    }
    const { promise: free, resolve: setFree } = Promise.withResolvers<void>();
    clearTimeout(this.#deadline);
    this.#deadline = undefined;
    let left = false;
    let look = () => {};
    const gone = () => {
      if (!this.held) this.leave();
      left = true;
      look();
    };
    this.#taken = { leave: gone, free };
    abort.addEventListener("abort", gone);
    if (abort.aborted) gone();
    try {
      for (;;) {
        if (left) return;
        const pending = this.#pending ??= this.#responses!.next();
        // Not Promise.race with one promise for "left": that would keep what each piece held.
        const step = await new Promise<IteratorResult<Response> | undefined>((resolve, reject) => {
          look = () => resolve(undefined);
          pending.then(resolve, reject);
        });
        while (step !== undefined && !left && this.#patience > 0) {
          await new Promise<void>((resolve) => {
            const timer = setTimeout(() => this.hold(0), this.#patience * 1000);
            look = this.#released = () => {
              clearTimeout(timer);
              resolve();
            };
          });
        }
        if (step === undefined || left) return;
        this.#pending = undefined;
        if (step.done === true) {
          this.#over = true;
          return;
        }
        yield step.value;
      }
    } catch (error) {
      this.#over = true;
      throw error;
    } finally {
      abort.removeEventListener("abort", gone);
      this.#taken = undefined;
      setFree();
      if (this.#over) this.#onEnd();
      else if (this.held) this.#wait();
      else await this.#abandon();
    }
  }

  #wait(): void {
    this.#deadline = setTimeout(() => void this.#abandon(), this.#patience * 1000);
    this.#patience = 0;
  }

  /** Ends the work; what it still says is of no interest. */
  async #abandon(): Promise<void> {
    this.#deadline = undefined;
    this.#over = true;
    this.leave();
    try {
      await this.#pending;
      await this.#responses!.return(undefined);
    } catch {
      // it ended with an error, and there is no client to hear it
    } finally {
      this.#onEnd();
    }
  }
}
