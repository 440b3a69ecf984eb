import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterAll, expect, test, vi } from 'vitest';
import { register } from '../lib/cli/train';
import { experimentCommands, rerunCommand } from '../lib/report/commands';
import { consoleReporter } from '../lib/runs/console';
import { budgetDigest } from '../lib/runs/identity';
import { openRun } from '../lib/runs/store';
import { startTrial } from '../lib/runs/trial';
import { putResults, readResults, trialRow } from '../lib/runs/trialResults';
import { planTraining } from '../lib/train/plan';
import { type RecipeOptions, resolveRecipe } from '../lib/train/recipe';
import { random } from '../lib/util/random';
import { dataset } from './training';

/** Pages take longer than these trainings. */
const writeReport = vi.hoisted(() => async () => {});
vi.mock('../lib/report/runReport', () => ({ writeReport }));

const runs = mkdtempSync(join(tmpdir(), 'rerun-'));
afterAll(() => rmSync(runs, { recursive: true }));

/** The words of a command as a shell takes them. */
function words(command: string): string[] {
  return [...command.matchAll(/(?:[^\s'\\]|'[^']*'|\\.)+/g)].map(([word]) =>
    word.replace(/'([^']*)'|\\(.)/g, (_, inside: string | undefined, escaped: string) => inside ?? escaped),
  );
}

/** Runs a printed command in this process, and gives the sha256 of its weights. */
async function weightsOf(command: string, name: string): Promise<string> {
  const all = words(command);
  const args = all.slice(all.indexOf('--') + 1);
  const program = new Command().exitOverride();
  register(program);
  await program.parseAsync(['train', ...args, `--runs=${runs}`, `--name=${name}`], { from: 'user' });
  process.channel?.ref(); // a command lets it go, and this process would end with its last test
  return openRun(runs, name).record.result!.weights;
}

/** Any recipe of a tiny network: each setting has its default, or something else, half the time. */
function anyRecipe(seed: number): RecipeOptions {
  const rng = random(seed);
  const maybe = <T>(key: string, ...values: T[]): Record<string, T> =>
    rng.uniform() < 0.5 ? {} : { [key]: values[rng.int(values.length)] };
  return {
    model: 'edgevit-xxs',
    data: 'petals:classes=3,train=8,test=5,size=32',
    epochs: 1,
    batch: 8,
    lr: [0.01, 3e-3, 1e-6][rng.int(3)],
    size: [32, [32, 64] as [number, number], 64][rng.int(3)],
    seed: rng.int(100),
    modelSettings: {
      depths: '1,1,1,1',
      dims: [4, 4, 8, 8],
      heads: '1,1,2,2',
      ...maybe('delegate', 'mean', 'max'),
      ...maybe('qkvBias', false),
      ...maybe('mlpRatio', 2),
    },
    ...maybe('ablation', 'noLocalAgg', 'fullAttention'),
    ...maybe('dropPath', 0, 0.2),
    ...maybe('outputs', 5),
    ...maybe('optimizer', 'sgd' as const, 'adam' as const),
    ...maybe('schedule', 'constant' as const),
    ...maybe('warmupEpochs', 0.5, 1),
    ...maybe('weightDecay', 0.05),
    ...maybe('labelSmoothing', 0.1),
    ...maybe('clip', 1),
    ...maybe('ema', 0.9),
    augment: {
      ...maybe('randomCrop', [0.5, 1] as [number, number]),
      ...maybe('flip', 0.5),
      ...maybe<number | object>('jitter', 0.3, { brightness: 0.1, contrast: 0, saturation: 0, hue: 0.1 }),
      ...maybe('mixup', 0.5),
      ...maybe('interpolation', 'bicubic' as const),
    },
  };
}

test.each(Array.from({ length: 12 }, (_, i) => i))(
  'recipe %i: the commands of its page and of its row end at its weights',
  async i => {
    const recipe = resolveRecipe(anyRecipe(i));
    const plan = planTraining(recipe, dataset);
    const run = await startTrial({
      plan,
      recipeName: i % 2 === 0 ? 'petals' : 'flowers12',
      about: 'any',
      runs,
      name: `any-${i}`,
      reporter: consoleReporter({ write: () => true }),
      writeReport,
    });
    const { weights } = run.record.result!;
    const ofRun = rerunCommand(run.record);
    expect(await weightsOf(ofRun, `again-${i}`), ofRun).toBe(weights);

    const file = join(runs, `${i}.json`);
    const row = trialRow(run, plan, {
      variant: 'full',
      budget: budgetDigest(plan, []),
    });
    putResults(file, [row]);
    const [read] = readResults(file);
    expect(read).toEqual(row);
    const ofRow = experimentCommands('lgl', [read])[`full, seed ${recipe.seed}`];
    if (i % 4 === 0) expect(await weightsOf(ofRow, `row-${i}`), ofRow).toBe(weights);
    expect(words(ofRow).filter(word => word.startsWith('--threads'))).toEqual([]); // any number ends at the same bytes
  },
);
