/** Jobs as the page knows them: the shape of `/v1/jobs` of the server. */

import { DEFAULTS, type Fit } from "../engine/options";
import type { ColorFix } from "../engine/writers";
import type { Format } from "../files/metadata";
import type { Result, Settings } from "../worker/messages";

export type State = "queued" | "running" | "done" | "failed" | "cancelled";

/** Settings as the page's form gives them. */
export interface Options {
  readonly scale?: number;
  readonly width?: number;
  readonly height?: number;
  readonly fit?: Fit;
  readonly detail?: number;
  readonly color_fix?: ColorFix;
  readonly format?: string;
  readonly quality?: number;
  readonly icc?: "srgb";
}

export interface Job {
  readonly id: number;
  readonly name: string;
  readonly created: number;
  readonly options: Options;
  readonly input: { readonly width: number; readonly height: number; readonly bytes: number };
  readonly expires: null;
  state: State;
  position: number | null;
  tiles_done: number;
  tiles_total: number | null;
  seconds_left: number | null;
  notices: readonly string[];
  error: { readonly detail: string } | null;
  output: Output | null;
}

export interface Output {
  readonly name: string;
  readonly width: number;
  readonly height: number;
  readonly format: string;
  readonly media_type: string;
  readonly bytes: number;
}

const QUALITY = 90;

/** The formats that a browser writes, as `/v1/limits` lists them. */
export const FORMATS = [
  { name: "png", suffix: ".png", media_type: "image/png", label: "PNG", lossless: false, quality: false },
  { name: "jpg", suffix: ".jpg", media_type: "image/jpeg", label: "JPEG", lossless: false, quality: true },
  { name: "webp", suffix: ".webp", media_type: "image/webp", label: "WebP", lossless: false, quality: true },
] as const;

export function formatOf(format: Format): (typeof FORMATS)[number] {
  return FORMATS.find(({ media_type }) => media_type === `image/${format}`) ?? FORMATS[0];
}

/** Translate the form's settings into the worker's. */
export function settingsOf(options: Options, tile: number | "auto"): Settings {
  const { width, height, fit, format } = options;
  const formats = { png: "png", jpg: "jpeg", webp: "webp" } as const;
  return {
    scale: options.scale ?? DEFAULTS.scale,
    target: width !== undefined && height !== undefined ? [width, height] : null,
    fit: fit ?? DEFAULTS.fit,
    detail: options.detail ?? DEFAULTS.detail,
    colorFix: options.color_fix ?? DEFAULTS.colorFix,
    tile,
    format: formats[format as keyof typeof formats] ?? "same",
    quality: options.quality ?? QUALITY,
    toSrgb: options.icc === "srgb",
  };
}

/** Name of a result: that of its input, with the suffix of its format. */
export function resultName(name: string, format: Format): string {
  const { suffix } = formatOf(format);
  const [, stem, ending] = /^(.+?)(\.[^.]{1,5})?$/.exec(name) ?? [name, name, undefined];
  const kept = format === "jpeg" && /^\.(jpe?g|jfif|jpe)$/i.test(ending ?? "");
  return kept ? name : stem + suffix;
}

export function outputOf(name: string, { format, width, height, blob }: Result): Output {
  return {
    name: resultName(name, format),
    width,
    height,
    format: formatOf(format).name,
    media_type: blob.type,
    bytes: blob.size,
  };
}

/** Estimate the seconds that are left from those since the first tile. */
export function secondsLeft(seconds: number, done: number, total: number): number | null {
  return done === 0 ? null : (seconds / done) * (total - done);
}
