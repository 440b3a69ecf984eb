import { openEngine } from '../engine/open';
import { createModel } from '../model/registry';
import type { PredictionRequest } from './jsPrediction';
import { prediction } from './prediction';

/** The process of jsPrediction.ts: builds what it is asked first, then answers numbers of runs with their seconds, until its parent hangs up. */
process.once('message', async ({ model, numClasses, size, batch }: PredictionRequest) => {
  await openEngine();
  const contender = prediction(createModel(model, { numClasses, size }), batch, false);
  process.on('message', async (count: number) => process.send!(await contender.run(count)));
  process.send!('ready');
});
