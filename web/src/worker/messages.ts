/** Messages between the page and its worker. */

import type { RestoreOptions } from "../engine/options";
import type { Format } from "../files/metadata";
import type { Provider } from "./runtime";

export interface Settings extends RestoreOptions {
  /** "same" keeps the format of the input; PNG for formats that cannot be written. */
  readonly format: Format | "same";
  /** 1 to 100, for JPEG and WebP. */
  readonly quality: number;
  /** Convert colours to sRGB, which needs no profile. */
  readonly toSrgb: boolean;
}

export type ToWorker =
  | { readonly kind: "open"; readonly provider: Provider | "auto"; readonly threads: number | null }
  | { readonly kind: "restore"; readonly id: number; readonly file: File; readonly settings: Settings }
  | { readonly kind: "cancel"; readonly id: number };

export type FromWorker =
  | { readonly kind: "engine"; readonly provider: Provider; readonly threads: number; readonly notice: string | null }
  | { readonly kind: "engine-failed"; readonly message: string }
  | { readonly kind: "progress"; readonly id: number; readonly done: number; readonly total: number | null }
  | { readonly kind: "done"; readonly id: number; readonly result: Result }
  | { readonly kind: "failed"; readonly id: number; readonly message: string }
  | { readonly kind: "cancelled"; readonly id: number };

export interface Result {
  readonly blob: Blob;
  /** A reduced picture for the screen, where the result is large. */
  readonly preview: Blob | null;
  readonly format: Format;
  readonly width: number;
  readonly height: number;
  readonly notices: readonly string[];
}
