#!/usr/bin/env node
'use strict';
// `npx edgevit-lab COMMAND`, where the package is installed; in a checkout the npm scripts call main.ts.
const { spawnSync } = require('node:child_process');
const { join } = require('node:path');
const { pathToFileURL } = require('node:url');

const tsx = pathToFileURL(require.resolve('tsx')).href;
const command = ['--import', tsx, join(__dirname, 'main.ts'), ...process.argv.slice(2)];
process.exitCode = spawnSync(process.execPath, command, { stdio: 'inherit' }).status ?? 1;
