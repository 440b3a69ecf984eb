export interface Outcome {
  /** Exit status; null when a signal ended the program or there is no such program. */
  code: number | null;
  signal: NodeJS.Signals | null;
  /** Whether the program could not be started at all. */
  missing: boolean;
  /** stdout and stderr, as they came. */
  output: string;
}

/** Runs a program to its end. Never throws: the outcome says what happened. */
export async function execute(
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv; uid?: number; gid?: number } = {},
): Promise<Outcome> {
  const { execa } = await import('execa'); // an ES module whose dependencies can't be required, and tsx requires what is imported statically
  const { exitCode, signal, all } = await execa(command, args, {
    ...options,
    extendEnv: options.env === undefined,
    stdin: 'ignore',
    all: true,
    reject: false,
    stripFinalNewline: false,
  });
  return {
    code: exitCode ?? null,
    signal: (signal as NodeJS.Signals | undefined) ?? null,
    missing: exitCode === undefined && signal === undefined,
    output: all ?? '',
  };
}

/** Whether this machine has a process of this number; somebody else's, which may not be signalled, is one too. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
