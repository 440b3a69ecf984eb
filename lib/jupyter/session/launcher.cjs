'use strict';
// The kernel's entry, for a plain `node launcher.cjs CONNECTION_FILE`, and again for its second thread. All the rest is TypeScript.
require('tsx/cjs');
require(require('node:worker_threads').isMainThread ? './kernel.ts' : '../protocol/wire.ts');
