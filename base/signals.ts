/**
 * Who ends the process on SIGINT, SIGTERM and SIGHUP.
 *
 * The command line ends at once, but with everything removed that is unfinished; a command that has
 * more to do, such as a server, takes the signals for as long as it runs. A program that uses cloudlet
 * as a library keeps its signals to itself.
 *
 * @module
 */

/** Exit codes as a shell tells of a program that such a signal ended: 128 plus its number. */
export const EXIT_CODES = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/** A signal that asks a process to end. */
export type EndSignal = keyof typeof EXIT_CODES;

const SIGNALS = Object.keys(EXIT_CODES) as readonly EndSignal[];
let takers = 0;

function listen(handler: (signal: EndSignal) => void): Disposable {
  const stack = new DisposableStack();
  for (const signal of SIGNALS) {
    const one = () => handler(signal);
    Deno.addSignalListener(signal, one);
    stack.defer(() => Deno.removeSignalListener(signal, one));
  }
  return stack;
}

/**
 * Takes the signals until disposed: `handler` sees to it that the process ends.
 *
 * @param handler called for each signal with the exit code that tells of it
 */
export function takeSignals(handler: (signal: EndSignal, exitCode: number) => void): Disposable {
  takers++;
  const listening = listen((signal) => handler(signal, EXIT_CODES[signal]));
  let taken = true;
  return {
    [Symbol.dispose]() {
      if (!taken) return;
      taken = false;
      takers--;
      listening[Symbol.dispose]();
    },
  };
}

/** Ends the process in order on a signal that nobody has taken: for a program, not for a library. */
export function exitOnSignals(): void {
  listen((signal) => {
    if (takers === 0) Deno.exit(EXIT_CODES[signal]);
  });
}
