/** A function that cannot be traced: the message names the op and the line of the caller's code. */
export class TraceError extends Error {
  override name = 'TraceError';
}

/** The line of the caller's code that led here: the first frame outside the engine, what it stands on, and the packages. */
export function callerLine(): string {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = Infinity; // a dozen frames of tfjs lie between
  const frames = (new Error().stack ?? '').split('\n').slice(1);
  Error.stackTraceLimit = stackTraceLimit;
  const own = frames.find(
    frame =>
      /:\d+:\d+/.test(frame) &&
      !/node_modules|node:|[\\/]lib[\\/](engine|tensor|util)[\\/]|[\\/]tfjs[a-z-]*[\\/]src[\\/]/.test(frame),
  );
  return own ? ` (${own.trim().replace(/^at /, 'at ')})` : '';
}
