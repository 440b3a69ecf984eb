import { z } from 'zod';
import { oneOf } from './errors';

const KINDS: Record<string, string> = {
  int: 'an integer',
  number: 'a number',
  string: 'text',
  boolean: "'true' or 'false'",
  array: 'a list',
  tuple: 'a list',
  object: 'an object',
  record: 'an object',
  null: 'null',
};

const OF: Record<string, string> = { array: ' entries', string: ' characters' };

/** What is allowed, in words that complete "… is 3: ": of what a schema refuses, where it has no words of its own. Undefined for what is rare. */
function explain(issue: z.core.$ZodRawIssue): string | undefined {
  switch (issue.code) {
    case 'invalid_type':
      return `${KINDS[issue.expected] ?? issue.expected} is expected`;
    case 'invalid_value':
      return `allowed ${issue.values.length === 1 ? 'is' : 'are'} ${oneOf(issue.values.map(String))}`;
    case 'too_small':
    case 'too_big': {
      const [least, bound] = issue.code === 'too_small' ? [true, issue.minimum] : [false, issue.maximum];
      const how = issue.exact
        ? 'exactly'
        : issue.inclusive
          ? least
            ? 'at least'
            : 'at most'
          : least
            ? 'more than'
            : 'less than';
      return `${how} ${bound}${OF[issue.origin] ?? ''}${issue.exact || OF[issue.origin] ? ' are' : ' is'} expected`;
    }
    case 'unrecognized_keys':
      return `there is no setting ${oneOf(issue.keys)}`;
    case 'invalid_format':
      return issue.format === 'datetime' ? 'a date and time as in 2026-11-24T19:02:00.000Z is expected' : undefined;
    case 'invalid_union': {
      const { discriminator, options } = issue as { discriminator?: string; options?: string[] };
      return discriminator === undefined ? 'it has none of the allowed forms' : `allowed are ${oneOf(options ?? [])}`;
    }
    default:
      return undefined;
  }
}

z.config({ customError: explain });
