/** Options of a restoration and the size of its result, as in the package's `options.py`. */

import { roundHalfEven, span, UserError, type Span } from "./images";
import type { ColorFix } from "./writers";

export type Fit = "contain" | "cover" | "stretch";
export const LARGEST_SCALE = 8;

export interface RestoreOptions {
  /** Enlargement from 1 to 8; not used with a target. */
  readonly scale: number;
  /** Width and height of the result. */
  readonly target: readonly [number, number] | null;
  readonly fit: Fit;
  /** Share of the step to take, from 0 (most faithful) to 1. */
  readonly detail: number;
  readonly colorFix: ColorFix;
  readonly tile: number | "auto";
}

export const DEFAULTS: RestoreOptions = {
  scale: 4,
  target: null,
  fit: "contain",
  detail: 1,
  colorFix: "wavelet",
  tile: "auto",
};

/** Check what does not depend on the picture. */
export function checkOptions({ scale, target, detail }: RestoreOptions): void {
  if (target === null && !(scale >= 1 && scale <= LARGEST_SCALE)) {
    throw new UserError(`The scale must lie between 1 and ${LARGEST_SCALE}.`);
  }
  if (target !== null && !target.every((side) => Number.isInteger(side) && side >= 1)) {
    throw new UserError("Width and height must be whole numbers of pixels.");
  }
  if (!(detail >= 0 && detail <= 1)) throw new UserError("Detail must lie between 0 and 1.");
}

/** Compute height and width of the result for an input of this size. */
export function outputSize(height: number, width: number, options: RestoreOptions): [number, number] {
  const { scale, target, fit } = options;
  if (target === null) {
    return [Math.max(1, roundHalfEven(height * scale)), Math.max(1, roundHalfEven(width * scale))];
  }
  const scales = [target[0] / width, target[1] / height];
  const [least, most] = [Math.min(...scales), Math.max(...scales)];
  const applied = { contain: [least], cover: [most], stretch: scales }[fit];
  if (!applied.every((value) => value >= 1 && value <= LARGEST_SCALE)) {
    throw new UserError(
      `The target of ${target[0]} × ${target[1]} is ${shown(least)} to ${shown(most)} times the picture's ` +
        `${width} × ${height}; both sides must grow by 1 to ${LARGEST_SCALE}.`,
    );
  }
  if (fit === "contain") {
    return [Math.max(1, roundHalfEven(height * least)), Math.max(1, roundHalfEven(width * least))];
  }
  return [target[1], target[0]];
}

/** Return the rows and columns of the input that the result shows: all, unless "cover" crops the longer side. */
export function visiblePart(height: number, width: number, { target, fit }: RestoreOptions): [Span, Span] {
  if (target === null || fit !== "cover") return [span(0, height), span(0, width)];
  const scale = Math.max(target[0] / width, target[1] / height);
  return [centre(height, target[1] / scale), centre(width, target[0] / scale)];
}

function centre(length: number, wanted: number): Span {
  const kept = Math.min(length, Math.max(1, roundHalfEven(wanted)));
  const start = Math.floor((length - kept) / 2);
  return span(start, start + kept);
}

function shown(value: number): string {
  return String(Number(value.toPrecision(3)));
}
