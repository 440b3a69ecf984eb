import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { basename, join } from 'node:path';
import type { Command } from 'commander';
import { DATASETS } from '../data/cache/cache';
import { parseSize } from '../model/registry';
import { here } from '../runs/console';
import { counted } from '../util/text';
import { importWeights } from '../weights/import';
import { KEY_MAPS } from '../weights/keyMaps';
import { writeTensors } from '../weights/tensorFiles';

interface Flags {
  model?: string;
  map?: string;
  key?: string;
  size: string;
  set?: string[];
  out?: string;
}

/** `npm run import -- FILE`: weights from elsewhere as a file of the lab's own, which `--init` takes. Seconds; nothing is executed. */
export function register(program: Command): void {
  const maps = Object.entries(KEY_MAPS)
    .map(([name, { about }]) => `${name} (${about})`)
    .join(', ');
  program
    .command('import')
    .description("read weights that were trained elsewhere, and write them under the official code's names")
    .argument('<file>', '.safetensors, or .pth or .pt of any PyTorch since 0.1.10')
    .option('--model <name>', 'the network (default: the one whose names and shapes fit)')
    .option('--map <name>', `whose names: ${maps} (default: told by the keys)`)
    .option('--key <path>', 'which state dict of a PyTorch file, such as model_ema (default: the plain one)')
    .option('--size <pixels>', 'side of the images, or HEIGHTxWIDTH', '224')
    .option('--set <settings...>', "settings of the model's configuration: key=value")
    .option('--out <file>', 'the .safetensors file to write (default: in datasets/weights, under the name of FILE)')
    .action(run);
}

async function run(path: string, { out, size, ...options }: Flags): Promise<void> {
  const { model, map, source, tensors } = await importWeights(path, { ...options, size: parseSize(size) });
  const { name, numClasses, config } = model;
  const parameters = model.params.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  const where =
    source.key === ''
      ? ''
      : `, from '${source.key}'${source.others.length > 0 ? ` (others: ${source.others.join(', ')})` : ''}`;
  console.log(`${path}: ${source.format}${where}, named as ${KEY_MAPS[map].about} names them`);
  console.log(
    `${name}, ${counted(numClasses, 'class', 'classes')}, ${counted(parameters, 'parameter')}, ${counted(Object.keys(tensors).length, 'entry', 'entries')}`,
  );
  const sha256 = await digest(path);
  const target =
    out ?? join(DATASETS, 'weights', `${basename(path).replace(/\.(safetensors|pth|pt)$/, '')}.safetensors`);
  writeTensors(target, {
    tensors,
    metadata: {
      format: 'pt',
      model: name,
      config: JSON.stringify(config),
      source: basename(path),
      sourceSha256: sha256,
      keyMap: map,
    },
  });
  console.log(`sha256 of the file: ${sha256}`);
  console.log(
    `wrote ${here(target)}: fine-tune it with \`npm run train -- --model=${name} --init=${here(target)} --data=folder:PATH\``,
  );
}

/** Files of hundreds of megabytes are hashed without being held. */
async function digest(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}
