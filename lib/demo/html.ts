import { createHash } from 'node:crypto';
import type { Exportable } from '../export/exportable';
import { trainedHow } from '../export/huggingFace';
import { countConfig, totalCount } from '../measure/count';
import { page } from '../report/page';
import { escapeHtml } from '../util/html';
import { thousands } from '../util/tables';
import { counted } from '../util/text';
import type { Block } from './manifest';

/** A file that the page may load: what it is, and its size in bytes. */
export interface SizedFile {
  what: string;
  bytes: number;
}

/** Where a page that was opened from disk says so: no script of it is loaded there. */
const UNSERVED = `if (location.protocol === 'file:') document.getElementById('unserved').hidden = false;`;

/** Scripts and models of the page's own server, and none of anybody else's. */
const POLICY = [
  "default-src 'none'",
  "img-src 'self' data: blob:",
  "style-src 'unsafe-inline'",
  `script-src 'self' blob: 'wasm-unsafe-eval' 'sha256-${createHash('sha256').update(UNSERVED).digest('base64')}'`,
  "worker-src 'self' blob:",
  "connect-src 'self' blob: data:",
].join('; ');

/** The page of a model: all that is known before an image is. */
export function demoPage(source: Exportable, blocks: readonly Block[], files: readonly SizedFile[]): string {
  const { name, model, classes } = source;
  const { params, macs } = totalCount(countConfig(model));
  const [height, width] = model.inputSize;
  const body = `<h1>${escapeHtml(name)}</h1>
<p>${escapeHtml(`${model.name}: ${counted(classes.length, 'class', 'classes')}, images of ${height}×${width} px, ${thousands(params)} parameters, ${(macs / 1e6).toFixed(1)} M MACs.`)}
${trainedHow(source).map(escapeHtml).join(' ')}</p>
<p id="unserved" role="alert" hidden>Opened as a file, this page can load no model: run <code>npm run demo</code>, or serve its folder by any web server, such as <code>npx http-server</code>.</p>
<noscript><p role="alert">The model runs in your browser, by JavaScript, which is switched off.</p></noscript>
<script>${UNSERVED}</script>
<label class="choose" for="photo"><strong>Choose an image</strong>, drop one here, or paste it
<input type="file" id="photo" accept="image/*" disabled></label>
<p id="status" role="status">Loading …</p>
<section id="result" aria-labelledby="result-heading" hidden>
<h2 id="result-heading">Most likely</h2>
<div class="answer"><canvas id="seen" role="img"></canvas><ol id="top"></ol></div>
${blocks.length > 0 ? attention(blocks) : `<p>${escapeHtml(model.name)} has no delegates that attend, so that there are no maps of attention.</p>`}
</section>
<section aria-labelledby="speed-heading">
<h2 id="speed-heading">Size and speed</h2>
<table><caption>What a browser downloads</caption>
<thead><tr><th scope="col">file<th scope="col" class="number">MB</thead>
<tbody>${files.map(({ what, bytes }) => `<tr><th scope="row">${escapeHtml(what)}<td class="number">${(bytes / 1e6).toFixed(2)}`).join('')}</tbody></table>
<p id="threads"></p>
<p><button type="button" id="measure" disabled>Measure latencies</button></p>
<div class="wide" id="latency" hidden tabindex="0" role="region" aria-label="Latencies"><table><caption>Latency of one image, in this browser</caption>
<thead><tr><th scope="col">backend<th scope="col">precision<th scope="col" class="number">median, ms (95 %)</thead>
<tbody id="latencies"></tbody></table>
<p class="quiet">From normalised pixels to logits, backends interleaved, warm-up left out. WebGPU is untried by the lab, which has no GPU.</p></div>
</section>
<p class="quiet">Images stay in this browser: the page asks nobody but its own server, for models alone.</p>
<script type="module" src="main.js"></script>`;
  return page({
    title: name,
    body,
    head: `<link rel="icon" href="data:,">\n<style>${STYLE}</style>\n`,
    policy: POLICY,
  });
}

function attention(blocks: readonly Block[]): string {
  const choices = blocks.map(({ name, heads }, i) => {
    const [, stage, block] = /^blocks(\d+)\.(\d+)$/.exec(name)!;
    const label = `stage ${stage}, block ${Number(block) + 1}`;
    const checked = i === blocks.length - 1 ? ' checked' : '';
    return `<label><input type="radio" name="block" value="${name}"${checked}> ${label} <span class="quiet">(${counted(heads, 'head')})</span></label>`;
  });
  return `<h2>What the delegates attend to</h2>
<p>Of each head, how much each delegate is attended to, the mean over all that ask: yellow is much, violet little.</p>
<fieldset><legend>Block</legend>${choices.join('\n')}</fieldset>
<div id="maps"></div>`;
}

const STYLE = `
.quiet { color: var(--quiet); font-size: .85rem; }
.choose { display: block; padding: 1.5rem 1rem; border: 2px dashed var(--line); border-radius: .75rem; text-align: center; cursor: pointer; }
.choose:hover, .dropping .choose { border-color: currentColor; }
.choose:focus-within { outline: 3px solid Highlight; outline-offset: 2px; }
.choose input { display: block; margin: .75rem auto 0; max-width: 100%; width: max-content; font: inherit; font-size: .9rem; }
#status { min-height: 1.5em; }
.answer { display: flex; flex-wrap: wrap; gap: 1rem 2rem; align-items: flex-start; }
#seen { width: 12rem; height: auto; max-width: 100%; border-radius: .5rem; image-rendering: auto; }
#top { flex: 1 1 16rem; margin: 0; padding: 0; list-style: none; }
#top li { display: grid; grid-template-columns: 1fr auto; gap: 0 1rem; padding: .25rem 0; overflow-wrap: anywhere; }
#top li:first-child { font-weight: 600; }
#top .number { font-variant-numeric: tabular-nums; }
#top .bar { grid-column: 1 / -1; height: .4rem; border-radius: .2rem; background: linear-gradient(to right, #0072b2 calc(100% * var(--p)), var(--line) 0); }
fieldset { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; border: 1px solid var(--line); border-radius: .5rem; padding: .5rem 1rem; }
fieldset label { padding: .25rem 0; }
#maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.75rem, 1fr)); gap: 1rem; margin-top: 1rem; }
#maps figure { margin: 0; max-width: 12rem; } #maps canvas { width: 100%; height: auto; border-radius: .5rem; } figcaption { font-size: .85rem; }
caption { text-align: left; font-size: .85rem; color: var(--quiet); padding-bottom: .25rem; }
th[scope=row] { font-weight: normal; }
#latency th, #latency td { white-space: normal; }
button { font: inherit; padding: .5rem 1rem; border-radius: .5rem; border: 1px solid var(--line); cursor: pointer; }
button:focus-visible, input:focus-visible, [tabindex]:focus-visible { outline: 3px solid Highlight; outline-offset: 2px; }
`;
