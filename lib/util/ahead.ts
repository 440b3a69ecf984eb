/** Applies `fn` to each item with up to `depth` calls under way, and yields the results in the items' order. */
export async function* ahead<T, R>(
  items: Iterable<T> | AsyncIterable<T>,
  depth: number,
  fn: (item: T) => Promise<R>,
): AsyncGenerator<R> {
  const pending: Promise<R>[] = [];
  for await (const item of items) {
    const result = fn(item);
    result.catch(() => {}); // reported where it is awaited; a caller that stops early must not leave an unhandled rejection
    pending.push(result);
    if (pending.length >= depth) yield await pending.shift()!;
  }
  while (pending.length > 0) yield await pending.shift()!;
}
