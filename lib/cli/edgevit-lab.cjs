#!/usr/bin/env node
'use strict';
// `npx edgevit-lab COMMAND`, where the package is installed; in a checkout the npm scripts call main.ts.
require('tsx/cjs');
require('./main.ts');
