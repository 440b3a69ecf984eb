/** The record with each value replaced. */
export function mapRecord<A, B>(record: Record<string, A>, fn: (value: A, name: string) => B): Record<string, B> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, fn(value, name)]));
}

/** The entries whose names are chosen, and the others. */
export function partition<T>(
  record: Record<string, T>,
  isChosen: (name: string) => boolean,
): [chosen: Record<string, T>, others: Record<string, T>] {
  const entries = Object.entries(record);
  return [
    Object.fromEntries(entries.filter(([name]) => isChosen(name))),
    Object.fromEntries(entries.filter(([name]) => !isChosen(name))),
  ];
}

/** `{ a: { b: 1 } }` → `[['a.b', 1]]`: the values of nested records by their paths. Arrays and null are values; what is undefined is left out. */
export function flattenRecord(value: object, prefix = ''): [path: string, value: unknown][] {
  return Object.entries(value).flatMap(([key, entry]): [string, unknown][] => {
    if (entry === undefined) return [];
    return typeof entry === 'object' && entry !== null && !Array.isArray(entry)
      ? flattenRecord(entry, `${prefix}${key}.`)
      : [[`${prefix}${key}`, entry]];
  });
}

/** Without the keys that have no value. */
export function defined<T extends object>(record: T): T {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as T;
}
