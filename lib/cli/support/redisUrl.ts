/** Whose value other users of a machine can't read, unlike a command line. */
const VARIABLE = 'REDIS_URL';

export function redisUrl(given?: string): string {
  return given ?? process.env[VARIABLE] ?? 'redis://127.0.0.1:6379';
}
