import { createHash } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';

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

/**
 * Where numbers of processes mean something: host, boot and PID namespace, as three short digests. Containers and hosts that have a folder in
 * common may have equal names, and never know each other's processes.
 */
export interface Place {
  host: string;
  boot: string;
  namespace: string;
}

export function thisPlace(): Place {
  const digest = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 8);
  return {
    host: digest(`${hostname()}\n${read(() => readFileSync('/etc/machine-id', 'utf8'))}`),
    boot: digest(read(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8'))),
    namespace: digest(read(() => readlinkSync('/proc/self/ns/pid'))),
  };
}

/**
 * Whether a process of a place is known to be gone: of other hosts and other containers nothing is known, a reboot leaves none. A host's own
 * namespace is the same after a reboot; containers of one image may have one name on several hosts, where another boot is another host's.
 */
export function isGoneFrom({ host, boot, namespace }: Place, pid: number): boolean {
  const here = thisPlace();
  if (host !== here.host || namespace !== here.namespace) return false;
  return boot !== here.boot || !isAlive(pid);
}

/** Empty where the system has no such file. */
function read(file: () => string): string {
  try {
    return file().trim();
  } catch {
    return '';
  }
}
