/**
 * Version of what the lab writes: run folders, checkpoints, files of results and bundles. 1 is that of the lab 0.1.0, whose files say no version.
 * Whatever was written is read for ever; trainings resume, and bundles are replayed, in their own format alone.
 */
export const FORMAT_VERSION = 2;

/** The sentence for a file of another format, where only the present one will do: `what` has been written by another lab. */
export function otherFormat(what: string, version: number, lab: string | undefined, undone: string): string {
  const by = lab === undefined ? '' : ` by EdgeViT Lab ${lab}`;
  const help = version < FORMAT_VERSION ? 'check out the lab that wrote it' : 'it needs a later lab than this checkout';
  return `${what} was written in format ${version}${by}, and this lab ${undone} format ${FORMAT_VERSION} alone: ${help}.`;
}
