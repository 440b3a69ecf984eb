/** Puts properties in front of an object's own; returns what takes them away again. */
export function override<T extends object>(target: T, properties: Partial<T>): () => void {
  const own = Object.entries(Object.getOwnPropertyDescriptors(properties));
  const before = own.map(([key]) => [key, Object.getOwnPropertyDescriptor(target, key)] as const);
  for (const [key, property] of own) Object.defineProperty(target, key, property);
  return () => {
    for (const [key, property] of before) {
      if (property) Object.defineProperty(target, key, property);
      else delete target[key as keyof T];
    }
  };
}
