import { UserError } from '../../util/errors';
import { processors } from '../../util/processors';

/** Trials at once for each processor, at most: each has an engine of its own in memory. */
const JOBS_PER_PROCESSOR = 4;

/** Throws UserError for more trials at once than a machine holds. */
export function checkJobs(jobs: number): void {
  const most = JOBS_PER_PROCESSOR * processors();
  if (jobs > most)
    throw new UserError(
      `--jobs is ${jobs}: this machine takes at most ${most} trials at once, ${JOBS_PER_PROCESSOR} for each processor.`,
    );
}
