import type { Dataset } from './dataset';

/** Where a kind of dataset comes from: its file in sources/ says it, `lib/data/open.ts` lists it. */
export interface Source<O = object> {
  /** What a command line may say: `flowers102[:split=official|paddle]`. */
  spec: string;
  /** Whether it reads a folder whose path the command line names. */
  hasPath?: true;
  /** Synthetic images, which prove nothing about photographs. */
  isSynthetic?: true;
  /** Opens it with its own options, `key=value`. Throws a UserError for what does not exist or cannot be used. */
  open(pairs: Record<string, string>, options: O, path: string): Dataset | Promise<Dataset>;
}
