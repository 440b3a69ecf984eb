import { countConfig, totalCount } from '../measure/count';
import { thousands } from '../util/tables';
import { counted } from '../util/text';
import type { Exportable } from './exportable';

/**
 * What transformers.js and the Hugging Face hub read of a model beside its weights. transformers.js 4 knows no `edgevit`: as `vit` it runs
 * whatever takes `pixel_values` and gives `logits`.
 */
export function hubConfig({ model, classes }: Exportable): object {
  return {
    architectures: ['ViTForImageClassification'],
    model_type: 'vit',
    edgevit_lab: { model: model.name, config: model.config },
    image_size: model.inputSize[0] === model.inputSize[1] ? model.inputSize[0] : model.inputSize,
    num_channels: 3,
    num_labels: model.numClasses,
    id2label: Object.fromEntries(classes.entries()),
    label2id: Object.fromEntries(classes.map((name, i) => [name, i])),
  };
}

/** Pillow's numbers for its filters. */
const RESAMPLE = { bilinear: 2, bicubic: 3 };

/** How images become what the network takes. A centred crop is told as torchvision's: resize the shorter side, then crop. */
export function preprocessorConfig({ model, augment }: Exportable): object {
  const [height, width] = model.inputSize;
  const { centerCrop, interpolation, mean, std } = augment;
  return {
    image_processor_type: 'ViTImageProcessor',
    do_convert_rgb: true,
    do_resize: true,
    size: centerCrop === null ? { height, width } : { shortest_edge: Math.round(Math.min(height, width) / centerCrop) },
    do_center_crop: centerCrop !== null,
    ...(centerCrop !== null && { crop_size: { height, width } }),
    resample: RESAMPLE[interpolation],
    do_rescale: true,
    rescale_factor: 1 / 255,
    do_normalize: true,
    image_mean: mean,
    image_std: std,
  };
}

/** What is known of a model's training, in sentences. */
export function trainedHow({ run }: Exportable): string[] {
  if (!run) return ['Nothing is known of its training: the weights come from a file, or are as they were initialised.'];
  const percent = (fraction: number): string => `${(100 * fraction).toFixed(1)} %`;
  return [
    `Trained on ${run.data}, ${counted(run.epochs, 'epoch')}, by the lab's run ${run.name}.`,
    run.result
      ? `On its ${run.result.images} test images: top-1 ${percent(run.result.top1)}, top-5 ${percent(run.result.top5)} (in float32).`
      : 'Its training has not ended.',
  ];
}

/** The card: what the model is, what it was trained on and how, how good it is, and how to run it and to train it again. */
export function modelCard(source: Exportable): string {
  const { name, model, classes, run } = source;
  const { params, macs } = totalCount(countConfig(model));
  const again = run
    ? [
        '## Training it again',
        '',
        `\`\`\`sh\n${run.command}\n\`\`\``,
        '',
        run.weights
          ? `ends, by the same version of the lab's numerics, at weights of sha256 \`${run.weights}\`.`
          : 'computes the run again.',
        '',
      ]
    : [];
  return [
    '---',
    'library_name: transformers.js',
    'pipeline_tag: image-classification',
    'license: mit',
    'tags: [edgevit, onnx, safetensors]',
    '---',
    '',
    `# ${name}`,
    '',
    `${model.name} ([EdgeViTs, ECCV 2022](https://arxiv.org/abs/2205.03436)), by EdgeViT Lab.`,
    '',
    '| | |',
    '|---|---|',
    `| parameters | ${thousands(params)} |`,
    `| MACs per image (the paper: FLOPs) | ${(macs / 1e6).toFixed(1)} M |`,
    `| images | ${model.inputSize.join('×')} px |`,
    `| classes | ${classes.length} |`,
    '',
    ...trainedHow(source),
    '',
    '## Running it',
    '',
    '```js',
    "import { pipeline } from '@huggingface/transformers';",
    `const classify = await pipeline('image-classification', FOLDER_OR_REPOSITORY, { dtype: 'fp32' }); // or 'fp16', 'q8'`,
    "console.log(await classify('photo.jpg'));",
    '```',
    '',
    'In `q8` most weights of matrices are in 8 bits and are multiplied in float32: a third of the bytes, nearly the probabilities of `fp32`, at',
    'about its speed. `npm run export -- … --to=onnx --int8=dynamic` computes in 8 bits, which is faster on most CPUs and less exact.',
    '',
    "`config.json` says `vit`, because transformers.js runs a model of that type as it is. Python's transformers cannot load this folder: there",
    "`onnx/model.onnx` runs in ONNX Runtime, and `model.safetensors` holds the official code's names.",
    '',
    ...again,
    '## Licence',
    '',
    'MIT, as the lab. The images that it was trained on have licences of their own, and are no part of this.',
    '',
  ].join('\n');
}
