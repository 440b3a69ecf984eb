export type SplitName = 'train' | 'test' | 'val';

/** What the folders of splits are called, in lower case; capitals don't matter. */
export const ALIASES: Record<SplitName, readonly string[]> = {
  train: ['train', 'training'],
  test: ['test', 'testing'],
  val: ['val', 'valid', 'validation', 'dev'],
};
export const SPLITS = Object.keys(ALIASES) as SplitName[];

export const splitOf = (name: string): SplitName | undefined =>
  SPLITS.find(split => ALIASES[split].includes(name.toLowerCase()));

/** An image before classes have numbers. */
export interface Found {
  name: string;
  size: number;
  className: string;
  /** Path below the folder of its class. */
  rest: string;
}

/** Images by split and class, as they lie. */
export type Content = Map<SplitName, Map<string, Found[]>>;

export function addTo(classes: Map<string, Found[]>, image: Found): void {
  const found = classes.get(image.className);
  if (found) found.push(image);
  else classes.set(image.className, [image]);
}

export function group(images: readonly Found[]): Map<string, Found[]> {
  const classes = new Map<string, Found[]>();
  for (const image of images) addTo(classes, image);
  return classes;
}
