/** What others reported of a network: never the lab's own, and nowhere mixed with it. */
export interface Reported {
  model: string;
  /** The lab's name of the same network, where it builds it. */
  ours?: string;
  /** ImageNet-1k, in [0, 1]. */
  top1?: number;
  params?: number;
  /** Per image at 224 px. The papers say FLOPs and count multiply-accumulates. */
  macs?: number;
  /** On a Samsung Exynos 2100, in milliseconds. */
  phoneMs?: number;
  /** Who reports it. */
  source: string;
}

/** DoTCoM's README, whose authors compare mobile networks and measured the latencies themselves. */
const DOTCOM = 'DoTCoM README';

/**
 * Second hand: the tables of "EdgeViTs" (Pan et al., ECCV 2022) could not be read directly. Its ablations, energy and Galaxy S21
 * latencies are reported by nobody who could be read, and so are missing here.
 */
export const REPORTED: readonly Reported[] = [
  {
    model: 'EdgeViT-XXS',
    ours: 'edgevit-xxs',
    top1: 0.744,
    params: 4.1e6,
    macs: 557e6,
    phoneMs: 41,
    source: `${DOTCOM}; EMOv2, StarNet and SHViT papers`,
  },
  {
    model: 'EdgeViT-XS',
    ours: 'edgevit-xs',
    top1: 0.775,
    params: 6.7e6,
    macs: 1136e6,
    phoneMs: 62,
    source: `${DOTCOM}; iFormer and LSNet papers`,
  },
  { model: 'EdgeViT-S', ours: 'edgevit-s', top1: 0.81, params: 11.1e6, macs: 1.9e9, phoneMs: 95, source: DOTCOM },
  { model: 'EdgeViT-XXS, retrained', ours: 'edgevit-xxs', top1: 0.7518, source: 'EasyCV model zoo' },
  { model: 'MobileNetV2', ours: 'mobilenet-v2', top1: 0.72, params: 3.4e6, macs: 0.3e9, source: 'StarNet paper' },
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
  { model: 'DeiT-tiny', ours: 'vit-tiny', phoneMs: 150, source: DOTCOM },
];
