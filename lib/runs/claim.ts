import { readdirSync, readlinkSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { isGone, type Owner, thisProcess } from '../util/owner';
import type { Run } from './store';

/*
 * Of processes that want to resume the same run one gets it. It makes a link in the run's folder, `.claim-SESSION-NUMBER`, which the file
 * system grants once, and which says who made it from the first moment. The claim of a process that was killed is never taken away, for then
 * two could take it: the next one makes a claim of the next number. Claims end when run.json tells of the new session.
 */
const CLAIM = /^\.claim-(\d+)-(\d+)$/;

/**
 * Takes a run that no process works on. Returns what gives it back, to be called when run.json names this process or when it cannot be resumed;
 * undefined where another process is faster. Claims up to the number `silent` are known to be of processes that are gone.
 */
export function claimRun(run: Run, silent = 0): (() => void) | undefined {
  const session = sessions(run);
  const last = newestClaim(run);
  const path = join(run.folder, `.claim-${session}-${(last?.number ?? 0) + 1}`);
  const end = (): void => {
    const passed = sessions(run) > session;
    for (const claim of claims(run))
      if (claim.path === path || (passed && claim.session <= session)) rmSync(claim.path, { force: true });
  };
  try {
    if (last && last.number > silent && !isGone(JSON.parse(readlinkSync(last.path)) as Owner)) return undefined;
    symlinkSync(JSON.stringify(thisProcess()), path);
  } catch (error) {
    // Another one made it first, or was done with it before it could be read.
    if (['EEXIST', 'ENOENT'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
  run.reload();
  if (sessions(run) === session) return end;
  rmSync(path, { force: true }); // a whole session went by since the run was read
  return undefined;
}

/** The number of the last claim on a run's next session; 0 where there is none. */
export function lastClaim(run: Run): number {
  return newestClaim(run)?.number ?? 0;
}

function newestClaim(run: Run): ReturnType<typeof claims>[number] | undefined {
  return claims(run)
    .filter(claim => claim.session === sessions(run))
    .sort((a, b) => b.number - a.number)
    .at(0);
}

/** How often the run was resumed. */
function sessions({ record }: Run): number {
  return record.resumedAt.length;
}

function claims({ folder }: Run): { path: string; session: number; number: number }[] {
  return readdirSync(folder).flatMap(name => {
    const match = CLAIM.exec(name);
    return match ? [{ path: join(folder, name), session: Number(match[1]), number: Number(match[2]) }] : [];
  });
}
