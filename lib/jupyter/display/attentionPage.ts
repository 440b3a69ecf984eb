import { legible, mosaic, overlay } from '../../charts/pixels';
import type { Picture } from '../../data/dataset';
import { page } from '../../report/page';
import { percent } from '../../runs/console';
import { writeFileAtomic } from '../../util/files';
import { escapeHtml } from '../../util/html';
import { toPng } from './pictures';

/** An image, what it was taken for, and how much each delegate was attended to: by block and head, row by row of its grid. */
export interface SeenImage {
  image: string;
  top: readonly { name: string; probability: number }[];
  picture: Picture;
  blocks: readonly {
    name: string;
    grid: readonly [rows: number, columns: number];
    heads: readonly Float32Array[];
  }[];
}

/** Pixels of the side of each map. */
const SIDE = 144;

/** Writes attention as a page that needs nothing but itself, or as one image: a row for each block, a column for each head. */
export async function writeAttention(file: string, model: string, seen: readonly SeenImage[]): Promise<void> {
  if (file.endsWith('.png')) {
    const rows = seen.flatMap(image => mapsOf(image).map(({ maps }) => mosaic(maps, maps.length)));
    writeFileAtomic(file, Buffer.from(await toPng(mosaic(rows, 1)), 'base64'));
    return;
  }
  const sections: string[] = [];
  for (const image of seen) sections.push(await sectionOf(image));
  const body = `<h1>What ${escapeHtml(model)} attends to</h1>
<p>Of each block and head, how much the delegates attend to each delegate, the mean over all of them: bright is much.</p>
${sections.join('\n')}`;
  writeFileAtomic(file, page({ title: `Attention of ${model}`, body }));
}

const mapsOf = ({ picture, blocks }: SeenImage): { name: string; maps: Picture[] }[] => {
  const large = legible(picture, SIDE);
  return blocks.map(({ name, grid, heads }) => ({
    name,
    maps: heads.map(weights => overlay(large, weights, ...grid)),
  }));
};

async function sectionOf(seen: SeenImage): Promise<string> {
  const { image, top, picture } = seen;
  const img = async (shown: Picture, alt: string): Promise<string> =>
    `<img src="data:image/png;base64,${await toPng(shown)}" width="${shown.width}" height="${shown.height}" alt="${escapeHtml(alt)}">`;
  const rows: string[] = [];
  for (const { name, maps } of mapsOf(seen)) {
    const images: string[] = [];
    for (const [head, map] of maps.entries())
      images.push(await img(map, `${name}, head ${head + 1} of ${maps.length}: attention over ${image}`));
    rows.push(`<h3>${name}, stage ${name[6]}</h3>\n<p>${images.join('\n')}</p>`);
  }
  const told = top.map(({ name, probability }) => `<li>${escapeHtml(name)}, ${percent(probability)}</li>`).join('');
  return `<h2>${escapeHtml(image)}</h2>
<p>${await img(legible(picture, SIDE), `${image} as the network sees it`)}</p>
<ol>${told}</ol>
${rows.join('\n')}`;
}
