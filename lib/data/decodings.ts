/** How files become RGB: as libvips does it, in colours and speed the better, or as Pillow and torchvision do, to the byte. */
export const DECODINGS = ['sharp', 'pillow'] as const;
export type Decoding = (typeof DECODINGS)[number];
