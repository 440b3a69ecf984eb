import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { openEngine } from '../engine/open';
import type { Exportable } from '../export/exportable';
import { exportModel, FORMATS, type FormatName } from '../export/formats';
import { type Int8, OPSET } from '../export/graphs';
import { OPSETS } from '../export/onnx/graph';
import { here } from '../runs/console';
import { openRun, RUNS, type Run } from '../runs/store';
import { UserError } from '../util/errors';
import { ROOT } from '../util/root';
import { counted } from '../util/text';
import { trainingImages } from './support/calibration';
import { openSource } from './support/source';

interface Flags {
  to: FormatName;
  out?: string;
  size?: string;
  opset: string;
  int8?: Int8['how'];
  runs: string;
}

/** `npm run export -- RUN|MODEL|FILE --to=onnx`: a model for other programs. Seconds. */
export function register(program: Command): void {
  const formats = Object.entries(FORMATS)
    .map(([name, { about }]) => `${name} (${about})`)
    .join(', ');
  program
    .command('export')
    .description('write a model for other programs: ONNX Runtime, PyTorch, TensorFlow, TensorFlow.js')
    .argument('<source>', 'a run, by name or folder; a file of weights; or the name of a model, with fresh weights')
    .addOption(new Option('--to <format>', formats).choices(Object.keys(FORMATS)).makeOptionMandatory())
    .option('--out <folder>', 'a new or empty one (default: experiments/exports/NAME-FORMAT)')
    .option('--size <pixels>', 'side of the images, or HEIGHTxWIDTH, of a model or a file (default: 224)')
    .addOption(new Option('--opset <n>', "ONNX's operator set").choices(OPSETS.map(String)).default(String(OPSET)))
    .addOption(
      new Option(
        '--int8 <how>',
        "with --to=onnx, matrices in 8 bits: alone (as --to=hf has them), or with what they multiply, by the range that this has in each call, or had in 128 of a run's training images",
      ).choices(['weights', 'dynamic', 'static']),
    )
    .option('--runs <folder>', 'where runs are kept', RUNS)
    .action(run);
}

async function run(name: string, { to, out, size, opset, int8: how, runs }: Flags): Promise<void> {
  await openEngine({ announce: true });
  const source = await openSource(name, { runs, size }, true);
  const { model, run: trained } = source;
  const folder = out ?? join(ROOT, 'experiments/exports', `${source.name}-${to}`);
  const int8 = how && int8Options(how, source, to, () => openRun(runs, name));
  if (to === 'hf' || how === 'weights' || how === 'static')
    console.log('Calibrating 8-bit weights on images, which takes a minute or two in the larger networks.');
  await exportModel(source, to, folder, { opset: Number(opset), int8 });
  const whose = trained ? `the run ${trained.name}` : source.name === name ? 'fresh weights, seed 0' : name;
  console.log(
    `${model.name}, ${counted(model.numClasses, 'class', 'classes')}, ${model.inputSize.join('×')} px, of ${whose}`,
  );
  for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()) {
    const path = join(folder, file);
    if (statSync(path).isFile()) console.log(`${here(path)}  ${(statSync(path).size / 1e6).toFixed(2)} MB`);
  }
}

/** Throws UserError where there is nothing to quantise, or no image to find ranges in. */
function int8Options(how: Int8['how'], { model, run }: Exportable, to: FormatName, open: () => Run): Int8 {
  if (to !== 'onnx')
    throw new UserError(
      `--int8 is for --to=onnx: ${to === 'hf' ? '--to=hf has a file in 8 bits without it' : `${to} is written in float32`}.`,
    );
  if (how !== 'static') return { how };
  if (!run)
    throw new UserError(
      '--int8=static finds ranges in training images, which a run alone is known to have: name one, or use --int8=weights or dynamic.',
    );
  return { how, images: trainingImages(open(), model) };
}
