'use strict';
// The lab is TypeScript, which Node doesn't read from node_modules: tsx compiles its files as they are required. The types are library.d.ts.
const { require: load } = require('tsx/cjs/api');

const predictor = () => load('./runs/predictor.ts', __filename);

exports.loadModel = async (...args) => predictor().loadModel(...args);
exports.loadRun = async (...args) => predictor().loadRun(...args);
