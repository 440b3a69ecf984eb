import { join } from 'node:path';

/** The checkout: paths in reports, in code digests and on the command line's own messages are relative to it. */
export const ROOT = join(__dirname, '../..');
