/** The watch over a provider: as in the package's `providers.py`, its result has to be the CPU's. */

import type { Planes } from "./images";

/**
 * Largest root mean square difference from the CPU, for values of about unit variance such as scaled latents. It is
 * 0.7 grey levels in the picture; half precision gives a tenth of it.
 */
export const TOLERANCE = 0.01;

/** Return why a result is wrong, or null if it agrees with the CPU's. */
export function disagreement(result: Planes, expected: Planes): string | null {
  if (result.data.length !== expected.data.length) return "gave a result of another size";
  if (!result.data.every(Number.isFinite)) return "gave values that are not finite";
  let [squares, total, totalSquares] = [0, 0, 0];
  expected.data.forEach((value, i) => {
    squares += (result.data[i] - value) ** 2;
    total += value;
    totalSquares += value ** 2;
  });
  const count = expected.data.length;
  const error = Math.sqrt(squares / count);
  const deviation = Math.sqrt(Math.max(0, totalSquares / count - (total / count) ** 2));
  return error <= TOLERANCE * Math.max(1, deviation)
    ? null
    : `gave a wrong result (off by ${error.toPrecision(2)} on average)`;
}

/** A tile to compare on: latents of soft shapes and noise, the same at each call. */
export function probe(edge: number): Planes {
  const data = new Float32Array(48 * edge * edge);
  let seed = 1;
  for (let i = 0; i < data.length; i++) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0; // numbers of Numerical Recipes
    data[i] = Math.sin(i / 97) + (seed / 2 ** 32 - 0.5) / 2;
  }
  return { data, channels: 48, height: edge, width: edge };
}
