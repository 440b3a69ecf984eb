'use strict';

/*
 * Preloaded into a process under test (node --require). At a chosen one of its operations on the files of a folder it lets the process
 * be killed (FAULT=kill), interrupted as by Ctrl-C (FAULT=interrupt), or the disk be full from then on (FAULT=full); a write is half done by then. Operations are counted from 1;
 * of the hundreds of writes that a checkpoint is, every fiftieth counts.
 */
const fs = require('node:fs');
const { resolve, sep } = require('node:path');

const { FAULT, FAULT_FOLDER, FAULT_AT } = process.env;
const inFolder = path => typeof path === 'string' && resolve(path).startsWith(FAULT_FOLDER + sep);
/** File → how often it was written. */
const own = new Map();
const real = { ...fs };
let count = 0;
let full = false;

/** What happens at an operation: nothing, or a fault, before which `half` does a part of it. */
function operation(half = () => {}) {
  count++;
  if (count !== Number(FAULT_AT)) return;
  if (FAULT === 'interrupt') {
    process.kill(process.pid, 'SIGINT');
    return;
  }
  half();
  if (FAULT === 'kill') process.kill(process.pid, 'SIGKILL');
  full = true;
}

function noSpace(name) {
  return Object.assign(new Error(`ENOSPC: no space left on device, ${name}`), {
    code: 'ENOSPC',
    errno: -28,
    syscall: name,
  });
}

/** For operations that need no room: only the moment counts. */
function watch(name, isOwn) {
  fs[name] = (...args) => {
    if (isOwn(...args)) operation();
    return real[name](...args);
  };
}

watch('renameSync', inFolder);
watch('rmSync', inFolder);
watch('fsyncSync', file => own.has(file));

fs.openSync = (path, ...rest) => {
  if (inFolder(path)) operation();
  const file = real.openSync(path, ...rest);
  if (inFolder(path)) own.set(file, 0);
  return file;
};

fs.closeSync = file => {
  own.delete(file);
  return real.closeSync(file);
};

fs.writeSync = (file, bytes, from, length, ...rest) => {
  if (!own.has(file)) return real.writeSync(file, bytes, from, length, ...rest);
  if (full) throw noSpace('write');
  const writes = own.get(file);
  own.set(file, writes + 1);
  let written = 0;
  if (writes % 50 === 0) operation(() => (written = real.writeSync(file, bytes, from, Math.ceil(length / 2))));
  return full ? written : real.writeSync(file, bytes, from, length, ...rest);
};

fs.appendFileSync = (path, text) => {
  if (!inFolder(path)) return real.appendFileSync(path, text);
  if (full) throw noSpace('write');
  operation(() => real.appendFileSync(path, text.slice(0, text.length / 2)));
  if (full) throw noSpace('write');
  return real.appendFileSync(path, text);
};
