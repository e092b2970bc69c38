/** Images ↔ scaled latents of `mini`, as in the package's `mini_folder.py`: blocks of 4x4 pixels become channels. */

import { newPlanes, type Planes } from "./images";

const PATCH = 4;
const SCALING = 1.72;

/** Map an image (3, H, W) in [0, 1] to scaled latents (48, H/4, W/4). */
export function encode(image: Planes): Planes {
  const latents = newPlanes(image.channels * PATCH ** 2, image.height / PATCH, image.width / PATCH);
  eachPlace(image, latents, (pixel, place) => {
    latents.data[place] = image.data[pixel] * (2 * SCALING) - SCALING;
  });
  return latents;
}

/** Map scaled latents (48, h, w) to an image (3, 4h, 4w), nominally in [0, 1]. */
export function decode(latents: Planes): Planes {
  const image = newPlanes(latents.channels / PATCH ** 2, latents.height * PATCH, latents.width * PATCH);
  eachPlace(image, latents, (pixel, place) => {
    image.data[pixel] = latents.data[place] * (0.5 / SCALING) + 0.5;
  });
  return image;
}

/** Call `visit` with the index of every pixel and that of its place among the latents. */
function eachPlace(image: Planes, latents: Planes, visit: (pixel: number, place: number) => void): void {
  for (let channel = 0, pixel = 0; channel < image.channels; channel++) {
    for (let y = 0; y < image.height; y++) {
      const row = Math.floor(y / PATCH) * latents.width;
      const plane = channel * PATCH ** 2 + (y % PATCH) * PATCH;
      for (let x = 0; x < image.width; x++, pixel++) {
        visit(pixel, (plane + (x % PATCH)) * latents.height * latents.width + row + (x >> 2));
      }
    }
  }
}
