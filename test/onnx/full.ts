import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cacheFolder } from '../../lib/engine/build/system';
import { openEngine } from '../../lib/engine/open';
import { largest } from '../../lib/measure/compare';
import { createModel } from '../../lib/model/registry';
import { virtualEnvironment } from '../../lib/util/python';
import { bothWays, NETWORKS } from './compare';

/**
 * `npm run test:onnx`: every network in its published size, 224 px, as ONNX. Each file passes `onnx.checker` (PyPI, into the user's cache), and
 * ONNX Runtime's logits equal the lab's to 1e-5 of the largest. About 5 minutes on two cores.
 */
const PINNED = 'onnx==1.20.0';
const CHECK = `
import sys, onnx
for path in sys.argv[1:]:
    onnx.checker.check_model(onnx.load(path), full_check=True)
`;

async function main(): Promise<void> {
  await openEngine({ announce: true });
  const python = await virtualEnvironment(
    {
      folder: join(cacheFolder(), 'python-onnx'),
      whose: 'onnx.checker',
      contents: [PINNED],
      atLeast: [3, 10],
      steps: [{ failed: `pip could not install ${PINNED}`, args: ['-m', 'pip', 'install', '-q', PINNED] }],
      announcement: `installing ${PINNED}`,
    },
    console.log,
  );
  const folder = mkdtempSync(join(tmpdir(), 'edgevit-onnx-'));
  try {
    for (const { name, ablation } of NETWORKS) {
      const model = createModel(name, { numClasses: name === 'article' ? 103 : 1000, size: 224, ablation });
      for (const opset of [17, 20]) {
        const { bytes, ours, theirs } = await bothWays(model, opset);
        const path = join(folder, 'model.onnx');
        writeFileSync(path, bytes);
        const { status, stderr } = spawnSync(python, ['-c', CHECK, path], { encoding: 'utf8' });
        const error = largest(ours.map((value, i) => value - theirs[i]!)) / largest(ours);
        const passed = status === 0 && error <= 1e-5;
        console.log(
          `${ablation ?? name}, opset ${opset}: ${error.toExponential(1)}${passed ? '' : ` FAILED ${stderr}`}`,
        );
        if (!passed) process.exitCode = 1;
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

void main();
