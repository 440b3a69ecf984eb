import { readPhoto } from '../../browser/photo';
import type { Picture } from '../../data/dataset';
import { denormalised, evaluationInput } from '../../data/transforms/augment';
import { type ClassProbability, ranked } from '../../train/ranked';
import type { Manifest } from '../manifest';
import { attentionMaps } from './attention';
import { address, type Session, THREADS } from './backend';
import { byId, element } from './dom';
import { measureLatency } from './latency';
import { openOnnxWasm } from './onnxWasm';
import { paint } from './photo';

const TOP = 5;

const percent = (probability: number): string => `${(100 * probability).toFixed(1)} %`;

/** Told to everybody, screen readers included. */
function say(text: string): void {
  byId('status').textContent = text;
}

class Demo {
  /** Of several images the last one counts, however long each takes. */
  private asked = 0;
  private shown: { outputs: Record<string, Float32Array>; seen: Picture } | undefined;

  constructor(
    private readonly manifest: Manifest,
    private readonly session: Session,
  ) {}

  async classify(file: Blob, name: string): Promise<void> {
    const mine = ++this.asked;
    say(`Looking at ${name} …`);
    const { side, size, augment, classes } = this.manifest;
    let photo: Picture;
    try {
      photo = await readPhoto(file, side);
    } catch {
      if (mine === this.asked) say(`${name} is no image that this browser can read: try a JPEG or a PNG.`);
      return;
    }
    const values = evaluationInput(photo, size, augment);
    const outputs = await this.session.run(values);
    if (mine !== this.asked) return;
    const seen = denormalised(values, size, augment);
    this.shown = { outputs, seen };
    const top = ranked(softmax(outputs.logits!), classes).slice(0, TOP);
    this.show(name, top, seen);
    this.showAttention();
    byId('result').hidden = false;
    say(`${name}: ${top[0]!.name}, ${percent(top[0]!.probability)}.`);
  }

  private show(name: string, top: readonly ClassProbability[], seen: Picture): void {
    const canvas = byId<HTMLCanvasElement>('seen');
    paint(canvas, seen);
    canvas.setAttribute('aria-label', `${name} as the network sees it, ${seen.width} by ${seen.height} pixels`);
    byId('top').replaceChildren(
      ...top.map(({ name, probability }) =>
        element(
          'li',
          { 'data-probability': String(probability) },
          element('span', { class: 'class' }, name),
          element('span', { class: 'number' }, percent(probability)),
          element('span', { class: 'bar', style: `--p: ${probability}`, 'aria-hidden': 'true' }),
        ),
      ),
    );
  }

  /** Of the block that is chosen. */
  showAttention(): void {
    const chosen = document.querySelector<HTMLInputElement>('input[name=block]:checked')?.value;
    const block = this.manifest.blocks.find(({ name }) => name === chosen);
    if (!block || !this.shown) return;
    const { outputs, seen } = this.shown;
    byId('maps').replaceChildren(...attentionMaps(block, outputs[block.name]!, seen));
  }
}

function softmax(logits: Float32Array): Float64Array {
  const largest = Math.max(...logits);
  const powers = Float64Array.from(logits, value => Math.exp(value - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map(power => power / sum);
}

/** An image that is dropped anywhere on the page or pasted is as good as one that is chosen. */
function listen(demo: Demo): void {
  const take = (files: FileList | undefined | null): void => {
    const [file] = files ?? [];
    if (file) demo.classify(file, file.name).catch(fail);
  };
  const input = byId<HTMLInputElement>('photo');
  input.disabled = false;
  input.addEventListener('change', () => {
    take(input.files);
    input.value = ''; // so that the same file can be chosen again
  });
  addEventListener('dragover', event => {
    event.preventDefault();
    document.body.classList.add('dropping');
  });
  for (const end of ['dragleave', 'drop']) addEventListener(end, () => document.body.classList.remove('dropping'));
  addEventListener('drop', event => {
    event.preventDefault();
    take(event.dataTransfer?.files);
  });
  addEventListener('paste', event => take(event.clipboardData?.files));
  for (const choice of document.querySelectorAll('input[name=block]'))
    choice.addEventListener('change', () => demo.showAttention());
}

function fail(error: unknown): void {
  console.error(error);
  say(`The page failed: ${(error as Error).message}`);
}

async function main(): Promise<void> {
  byId('threads').textContent =
    THREADS > 1
      ? `WebAssembly, with SIMD, runs on ${THREADS} threads.`
      : crossOriginIsolated
        ? 'WebAssembly runs on one thread: this machine has one processor.'
        : 'WebAssembly runs on one thread, because this server does not isolate the page (headers COOP and COEP), as “npm run demo” does.';
  const manifest = (await (await fetch(address('demo.json'))).json()) as Manifest;
  const session = await openOnnxWasm(manifest.shown, manifest.size);
  const demo = new Demo(manifest, session);
  listen(demo);
  say('Ready: choose, drop or paste an image.');
  const measure = byId<HTMLButtonElement>('measure');
  measure.disabled = false;
  measure.addEventListener('click', async () => {
    measure.disabled = true;
    say('Measuring …');
    try {
      await measureLatency(manifest);
      say('Measured: see the table of latencies.');
    } catch (error) {
      fail(error);
    } finally {
      measure.disabled = false;
    }
  });
}

main().catch(fail);
