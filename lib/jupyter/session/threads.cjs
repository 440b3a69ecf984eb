'use strict';
// The kernel's two threads: the one that runs the cells, and that of the wire protocol. All the rest is TypeScript.
require('tsx/cjs');
require(require('node:worker_threads').isMainThread ? './kernel.ts' : '../protocol/wire.ts');
