import { InvalidArgumentError } from 'commander';
import { positiveInteger } from '../../lib/model/config';

/** A commander argument that must be a positive integer. */
export function count(text: string): number {
  const value = positiveInteger.parse(text);
  if (value === undefined) throw new InvalidArgumentError(`It must be ${positiveInteger.allowed}.`);
  return value;
}
