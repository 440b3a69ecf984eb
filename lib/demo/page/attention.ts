import { legible, overlay } from '../../charts/pixels';
import type { Picture } from '../../data/dataset';
import type { Block } from '../manifest';
import { element } from './dom';
import { paint } from './photo';

/** Pixels of the side of each map. */
const SIDE = 192;

/** Maps of one block, one for each head: over the image as the network sees it, what the delegates attend to. */
export function attentionMaps({ name, heads, grid }: Block, received: Float32Array, seen: Picture): HTMLElement[] {
  const large = legible(seen, SIDE);
  const [rows, columns] = grid;
  return Array.from({ length: heads }, (_, head) => {
    const weights = received.subarray(head * rows * columns, (head + 1) * rows * columns);
    const canvas = document.createElement('canvas');
    canvas.setAttribute('role', 'img');
    canvas.setAttribute('aria-label', `${name}, head ${head + 1}: attends most to the ${place(weights, grid)}`);
    paint(canvas, overlay(large, weights, rows, columns));
    return element('figure', {}, canvas, element('figcaption', {}, `head ${head + 1}`));
  });
}

/** Where the largest weight lies, in words, for who can't see the map. */
function place(weights: Float32Array, [rows, columns]: readonly [number, number]): string {
  const at = weights.indexOf(Math.max(...weights));
  const third = (index: number, of: number): number => Math.min(2, Math.floor((3 * (index + 0.5)) / of));
  const down = ['top', 'middle', 'bottom'][third(Math.floor(at / columns), rows)]!;
  const across = ['left', 'centre', 'right'][third(at % columns, columns)]!;
  return down === 'middle' && across === 'centre' ? 'centre' : `${down} ${across}`;
}
