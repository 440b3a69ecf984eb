import { AsyncLocalStorage } from 'node:async_hooks';

interface AsyncWrap {
  async_hook_fields: Record<number, number>;
  constants: { kCheck: number; kTotals: number };
}

/**
 * An AsyncLocalStorage that survives what ends a cell by force. Up to Node 22 it works by hooks, which make Node check at the end of each
 * callback that its stack of contexts is balanced, and abort if it is not, as when V8 has ended the callback in the middle:
 * `--no-force-async-hooks-checks` says not to, but an enabled hook asks for the check again.
 */
export class OwnerStorage<T> extends AsyncLocalStorage<T> {
  private readonly wrap = asyncWrap();

  override run<R>(store: T, work: () => R): R {
    return super.run(store, () => {
      if (this.wrap) {
        const { async_hook_fields: fields, constants } = this.wrap;
        fields[constants.kCheck] = 0;
        fields[constants.kTotals] = 0;
      }
      return work();
    });
  }
}

function asyncWrap(): AsyncWrap | undefined {
  const { emitWarning } = process;
  process.emitWarning = () => {}; // of Node's, that this is not for everyone
  try {
    return (process as unknown as { binding(name: string): AsyncWrap }).binding('async_wrap');
  } catch {
    return undefined; // a Node that has no such hooks needs nothing
  } finally {
    process.emitWarning = emitWarning;
  }
}
