import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { planTraining, type TrainingPlan } from '../train/plan';
import { resolveRecipe } from '../train/recipe';
import { writeFileAtomic } from '../util/files';
import { inScratch, moveFolder } from '../util/folders';
import { readArchive, refuser } from './archive';
import { checkWeights } from './bundle';
import { checkBundle, ENTRY } from './bundleFile';
import { claimRun } from './claim';
import type { Environment } from './environment';
import { trialIdentity } from './identity';
import { type KeptDataOptions, Run, type RunRecord, type WriteReport } from './store';
import { findTrial } from './trialFile';

/** A trial that was trained elsewhere, and how it is described here. */
export interface Expected {
  name: string;
  /** `trialIdentity`. */
  digest: string;
  plan: TrainingPlan;
  dataOptions: KeptDataOptions;
}

/**
 * Puts a bundled trial into a folder of runs, as it would be if it had been trained there. Throws UserError, of one sentence, for a bundle that is
 * damaged, contradicts itself, or is of another trial: its digest is computed again from its recipe, its images and its environment. Where it was
 * trained the folder of images may have had another name. A run folder that is there and not done gives way, unless a process works on it.
 */
export async function receiveTrial(
  file: string,
  { name, digest, plan, dataOptions }: Expected,
  runs: string,
  writeReport: WriteReport,
): Promise<void> {
  const entries = await readArchive(file);
  const { run } = checkBundle(file, entries);
  const refuse = refuser(file);
  if (run.dataset.fingerprint !== plan.dataset.fingerprint) refuse('it was trained on other images');
  const own = trialIdentity(planTraining(resolveRecipe(run.recipe), plan.dataset), run.environment as Environment);
  if (own.digest !== digest || run.trial !== digest) refuse(`it holds the trial '${own.name}', not '${name}'`);
  await inScratch(runs, async scratch => {
    const folder = join(scratch, 'run');
    mkdirSync(folder);
    const { name: set, description } = plan.dataset;
    const dataset = { ...run.dataset, name: set, description };
    const received = new Run(folder, { ...(run as RunRecord), name, recipe: plan.recipe, dataset, dataOptions });
    const kept = [ENTRY.metrics, ENTRY.evaluation, ENTRY.predictions].map((entry): [string, string] => [
      entry,
      join(folder, entry),
    ]);
    for (const [entry, path] of [...kept, [ENTRY.weights, received.lastCheckpoint]])
      writeFileAtomic(path, entries.get(entry) ?? refuse(`it lacks ${entry}`));
    received.recordFiles({ ended: true });
    checkWeights(received, refuse);
    await writeReport(received);
    const before = findTrial(runs, name);
    if (before?.status === 'done') return;
    if (before) {
      const busy = before.status === 'running' || !claimRun(before);
      if (busy) refuse(`another process works on the run '${name}'`);
      renameSync(before.folder, join(scratch, 'before'));
    }
    moveFolder(folder, join(runs, name)); // where another process was faster, its run has the same bytes
  });
}

/** Done trials by their digests, as bundles: in a folder, or a bucket that is mounted there, which sweeps of many machines may have in common. */
export interface ResultsCache {
  /** Puts a trial into the folder of runs, if it is there and can be believed. */
  take(trial: Expected, runs: string): Promise<boolean>;
  /** Keeps a done trial. */
  put(run: Run): Promise<void>;
}

/** `bundle` makes one of a run. What can't be taken or kept is said, and no reason to stop; what was refused is replaced. */
export function resultsCache(
  folder: string,
  {
    bundle,
    writeReport,
    say,
  }: { bundle(run: Run): Promise<Buffer>; writeReport: WriteReport; say(line: string): void },
): ResultsCache {
  const refused = new Set<string>();
  const fileOf = (digest: string): string => join(folder, digest.slice(0, 2), `${digest}.zip`);
  const attempt = async (what: string, work: () => Promise<void>): Promise<boolean> => {
    try {
      await work();
      return true;
    } catch (error) {
      say(`${what}: ${(error as Error).message}`);
      return false;
    }
  };
  return {
    async take(trial, runs) {
      const file = fileOf(trial.digest);
      if (!existsSync(file)) return false;
      const taken = await attempt(`${trial.name} is not taken from the cache`, () =>
        receiveTrial(file, trial, runs, writeReport),
      );
      if (!taken) refused.add(file);
      return taken;
    },
    async put(run) {
      const { name, trial } = run.record;
      const file = fileOf(trial!);
      if (refused.delete(file) || !existsSync(file))
        await attempt(`${name} is not kept in the cache`, async () => writeFileAtomic(file, await bundle(run)));
    },
  };
}
