import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';

/** A folder of photographs for tests: three classes of plain colours, 4 + 2 images each. Returns its path. */
export async function folderOfPictures(root: string): Promise<string> {
  for (const [split, count] of [
    ['train', 4],
    ['test', 2],
  ] as const) {
    for (const [label, name] of ['red', 'green', 'blue'].entries()) {
      const folder = join(root, split, name);
      mkdirSync(folder, { recursive: true });
      for (let i = 0; i < count; i++) {
        const background = Object.fromEntries(
          ['r', 'g', 'b'].map((channel, c) => [channel, c === label ? 120 + 20 * i : 10 * i]),
        ) as { r: number; g: number; b: number };
        await sharp({ create: { width: 32, height: 32, channels: 3, background } })
          .png()
          .toFile(join(folder, `${i}.png`));
      }
    }
  }
  return root;
}
