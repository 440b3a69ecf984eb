import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { download } from '../data/sources/download';
import { cacheFolder } from '../engine/build/system';
import type { ModelName } from '../model/registry';
import { UserError } from '../util/errors';
import { writeFileAtomic } from '../util/files';
import { allowedNames } from '../util/suggest';
import { importWeights } from '../weights/import';

/** Weights that a third party published; those whose paper it is never did. */
interface Published {
  model: ModelName;
  /** Below the base address. */
  path: string;
  /** On ImageNet-1k at 224 px, as whoever published them states. */
  top1: number;
}

/** EasyCV's model zoo (github.com/alibaba/EasyCV, docs/source/model_zoo_cls.md); Apache-2.0. */
const EASYCV = 'https://pai-vision-data-hz.oss-cn-zhangjiakou.aliyuncs.com/EasyCV/modelzoo/classification/edgevit';
const easycv = (model: ModelName, folder: string, top1: number): Published => ({
  model,
  path: `${folder}/ClsEvaluator_neck_top1_best.pth`,
  top1,
});

export const PUBLISHED: Readonly<Record<string, Published>> = {
  'easycv:xxs': easycv('edgevit-xxs', 'edgexxs', 75.18),
  'easycv:xs': easycv('edgevit-xs', 'edgexs', 77.62),
  'easycv:s': easycv('edgevit-s', 'edges', 80.3),
};

export interface PublishedOptions {
  /** Where files are kept (default: the lab's cache). */
  folder?: string;
  /** The address that the paths are below (default: EasyCV's). */
  base?: string;
  say(line: string): void;
}

/** Larger than the largest with its optimizer, three times. */
const MOST_BYTES = 5e8;

/**
 * The file of published weights: downloaded once, kept, and checked against the sha256 that it had when it first came. A file that does not
 * hold the network's weights is never kept. Throws UserError for a name that is none, and for a file that is another than it was.
 */
export async function publishedWeights(
  name: string,
  { folder = join(cacheFolder(), 'weights'), base = EASYCV, say }: PublishedOptions,
): Promise<string> {
  if (!Object.hasOwn(PUBLISHED, name))
    throw new UserError(`There are no published weights '${name}': ${allowedNames(name, Object.keys(PUBLISHED))}`);
  const { model, path, top1 } = PUBLISHED[name]!;
  const file = join(folder, `${name.replace(':', '-')}.pth`);
  say(
    `weights ${name}: ${model} on ImageNet-1k, ${top1} % top-1 as EasyCV's model zoo states. A third party trained them, not the paper's authors.`,
  );
  if (existsSync(file)) {
    checkPin(name, file, await sha256(file), `${file} was altered: remove it to download it again`, say);
    return file;
  }
  const arrived = `${file}.arrived`;
  await download(`${base}/${path}`, arrived, { most: MOST_BYTES });
  try {
    // What is no state dict of this network, such as a proxy's page, is not what is to be trusted from now on.
    await importWeights(arrived, { model });
    checkPin(
      name,
      file,
      await sha256(arrived),
      `the server sends another file now: to trust it, remove ${pinOf(file)}`,
      say,
    );
  } catch (error) {
    rmSync(arrived);
    throw error;
  }
  renameSync(arrived, file);
  return file;
}

const pinOf = (file: string): string => `${file}.sha256`;

/** Pins a file's sum where it has yet to be, and throws UserError where it is not as pinned. */
function checkPin(name: string, file: string, actual: string, advice: string, say: (line: string) => void): void {
  if (!existsSync(pinOf(file))) {
    writeFileAtomic(pinOf(file), `${actual}\n`);
    say(
      `sha256 ${actual}, pinned from now on. This is trust on first use: no machine on which this was written reaches the host, so the real file could not be checked.`,
    );
    return;
  }
  const pinned = readFileSync(pinOf(file), 'utf8').trim();
  if (pinned !== actual)
    throw new UserError(
      `The weights '${name}' have the sha256 ${actual}, but were pinned to ${pinned} when they first came; ${advice}.`,
    );
  say(`sha256 ${actual}, as pinned when it first came`);
}

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}
