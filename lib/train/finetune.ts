import type { Model } from '../model/module';
import { countConfig, headOf } from '../model/registry';
import { UserError } from '../util/errors';
import { power } from '../util/power';
import { allowedNames } from '../util/suggest';

/** What is trained how fast, where weights are trained further. All of it left out: everything, at one learning rate. */
export interface FineTuning {
  /** Learning rate of everything whose own isn't set. */
  lr?: number;
  /** Patterns of `frozenParams`, separated by commas. */
  freeze?: string | null;
  /** Learning rate of the classifier, which is fresh where the rest is trained. */
  lrHead?: number | null;
  /** Learning rate of each layer as a fraction of the next one's (Clark et al. 2020, as BEiT and timm do); 1 for no decay. */
  layerDecay?: number;
}

/**
 * The parameters that patterns keep as they are, by official name. A pattern is a module or parameter (`blocks1`, `norm.weight`), `*`
 * stands for any characters, and `!` before it takes parameters out again: `*,!head` leaves the head alone to be trained. Throws
 * UserError for a pattern that fits nothing, and where nothing is left to train.
 */
export function frozenParams({ name: model, params }: Model, freeze: string | null = null): ReadonlySet<string> {
  const frozen = new Set<string>();
  for (const pattern of freeze?.split(',').map(part => part.trim()) ?? []) {
    const glob = pattern.replace(/^!/, '');
    const source = glob
      .split('*')
      .map(part => part.replace(/[^\w]/g, '\\$&'))
      .join('.*');
    const matcher = new RegExp(`^${source}(\\..*)?$`);
    const matched = params.filter(({ name }) => matcher.test(name));
    if (matched.length === 0) {
      const modules = params.flatMap(({ name }) =>
        name.split('.').map((_, i, parts) => parts.slice(0, i + 1).join('.')),
      );
      throw new UserError(
        `freeze has '${pattern}', which no parameter of ${model} is named like: ${allowedNames(glob, [...new Set(modules)])}`,
      );
    }
    for (const { name } of matched)
      if (pattern.startsWith('!')) frozen.delete(name);
      else frozen.add(name);
  }
  if (params.every(({ name }) => frozen.has(name)))
    throw new UserError(`freeze is '${freeze}', which leaves nothing of ${model} to train.`);
  return frozen;
}

/** What the schedule's learning rate is multiplied by, for each parameter. */
export function rateScales(
  model: Model,
  { lr = 1, lrHead = null, layerDecay = 1 }: FineTuning,
): ReadonlyMap<string, number> {
  const decays = layerDecay === 1 ? undefined : decaysOf(model, layerDecay);
  const head = new Set(lrHead === null ? [] : headOf(model));
  return new Map(model.params.map(({ name }) => [name, head.has(name) ? lrHead! / lr : (decays?.get(name) ?? 1)]));
}

/** `blocks1.0` of `blocks1.0.LocalAgg.norm1.weight`, `norm` of `norm.weight`. */
const layerOf = (name: string): string => /^[^.]*(\.\d+)?/.exec(name)![0];

/** What is multiplied by each parameter's rate: layers count in the order of computation; a patch embedding, a block, the norm, the head are one each. */
function decaysOf(model: Model, layerDecay: number): Map<string, number> {
  // Tokens and position embeddings belong to no layer that computes: they come first.
  const order = [...new Set([...countConfig(model).keys()].map(layerOf))].filter(layer => layer !== '');
  const layers = model.params.map(({ name }) => Math.max(0, order.indexOf(layerOf(name))));
  const last = Math.max(...layers);
  return new Map(model.params.map(({ name }, i) => [name, power(layerDecay, last - layers[i]!)]));
}
