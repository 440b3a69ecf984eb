import { DOTCOM, type Reported } from '../model/architecture';
import { architectureOf, MODELS } from '../model/registry';

/** A reported network, with the lab's name of it where it is built here. */
export type ReportedModel = Reported & { ours?: string };

/** Networks that are not built here. */
const OTHERS: readonly Reported[] = [
  { model: 'MobileNetV2, smaller', top1: 0.698, params: 2.6e6, macs: 0.3e9, phoneMs: 25, source: DOTCOM },
  { model: 'MobileNetV3-L', top1: 0.752, params: 5.4e6, macs: 219e6, source: 'StarNet paper' },
  {
    model: 'EfficientNet-B0',
    top1: 0.771,
    params: 5.3e6,
    macs: 0.39e9,
    phoneMs: 52,
    source: `${DOTCOM}; StarNet paper`,
  },
  { model: 'MobileViT-XXS', top1: 0.69, params: 1.3e6, macs: 0.4e9, phoneMs: 57, source: DOTCOM },
  { model: 'MobileViT-XS', top1: 0.748, params: 2.3e6, macs: 0.7e9, phoneMs: 85, source: DOTCOM },
  { model: 'MobileViT-S', top1: 0.784, params: 5.6e6, macs: 1.8e9, phoneMs: 93, source: DOTCOM },
  { model: 'PVTv2-B0', top1: 0.705, params: 3.7e6, macs: 572e6, source: 'EMOv2 paper' },
  { model: 'FastViT-T8', top1: 0.756, params: 3.6e6, macs: 0.7e9, phoneMs: 64, source: DOTCOM },
];

/** All that was reported: of the lab's architectures, whose files say it, and of others. */
export const REPORTED: readonly ReportedModel[] = [
  ...MODELS.flatMap(ours => (architectureOf(ours).reported ?? []).map(each => ({ ...each, ours }))),
  ...OTHERS,
];
