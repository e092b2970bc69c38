/** Writers of restored rows into the result, as in the package's `canvas.py`: align colours, round once. */

import { adain, Moments, waveletColorFix, WAVELET_RADIUS } from "./color";
import { span, stacked, toByte, windowOf, type Pixels, type Planes, type Span } from "./images";
import type { PlainAreas } from "./plain_areas";

export type ColorFix = "wavelet" | "adain" | "none";

/** Gives rows and columns of the enlarged input, three channels. */
export type Source = (rows: Span, cols: Span) => Planes;

/** The result; `transposed` says that the rows that arrive are its columns. */
export interface Canvas {
  readonly pixels: Pixels;
  readonly transposed: boolean;
}

const BLOCK = 512;

export function makeWriter(fix: ColorFix, canvas: Canvas, source: Source, areas: PlainAreas): CanvasWriter {
  const writers = { wavelet: WaveletWriter, adain: AdainWriter, none: CanvasWriter };
  return new writers[fix](canvas, source, areas);
}

/** Writer of what the model produced, without any alignment. Blocks of a few hundred pixels keep memory small. */
export class CanvasWriter {
  protected readonly height: number;
  protected readonly width: number;
  protected done = 0;

  constructor(
    private readonly canvas: Canvas,
    protected readonly source: Source,
    protected readonly areas: PlainAreas,
  ) {
    const { height, width } = canvas.pixels;
    [this.height, this.width] = canvas.transposed ? [width, height] : [height, width];
  }

  /** Add the next rows, three channels. */
  push(rows: Planes): void {
    for (const [y, x] of blocks(span(0, rows.height), this.width)) {
      this.write(span(this.done + y.start, this.done + y.stop), x, windowOf(rows, y, x));
    }
    this.done += rows.height;
  }

  /** Finish after the last row. */
  close(): void {}

  /** Round values into the result; a grey result takes the mean of the channels. */
  protected write(rows: Span, cols: Span, { data, height, width }: Planes): void {
    const { pixels, transposed } = this.canvas;
    const channels = pixels.channels;
    const [down, across] = transposed ? [channels, pixels.width * channels] : [pixels.width * channels, channels];
    const size = height * width;
    for (let y = 0, i = 0; y < height; y++) {
      let to = (rows.start + y) * down + cols.start * across;
      for (let x = 0; x < width; x++, i++, to += across) {
        const [r, g, b] = [data[i], data[i + size], data[i + 2 * size]];
        if (channels === 1) {
          pixels.data[to] = toByte((r + g + b) / 3);
        } else {
          pixels.data[to] = toByte(r);
          pixels.data[to + 1] = toByte(g);
          pixels.data[to + 2] = toByte(b);
        }
      }
    }
  }
}

/** Writer with the wavelet fix. Its radius is 31 pixels, so rows wait for the rows below them. */
class WaveletWriter extends CanvasWriter {
  private held: Planes | null = null; // rows still needed, starting at `top`
  private top = 0;

  override push(rows: Planes): void {
    const held = this.held === null ? rows : stacked(this.held, rows);
    const bottom = this.top + held.height;
    const ready = bottom === this.height ? this.height : Math.max(this.done, bottom - WAVELET_RADIUS);
    for (const [y, x] of blocks(span(this.done, ready), this.width)) {
      const [nearY, nearX] = [widened(y, bottom), widened(x, this.width)];
      const source = this.source(nearY, nearX);
      const restored = windowOf(held, span(nearY.start - this.top, nearY.stop - this.top), nearX);
      const inner = [within(y, nearY), within(x, nearX)] as const;
      const fixed = windowOf(waveletColorFix(restored, source), ...inner);
      this.areas.follow(fixed, windowOf(source, ...inner), y, x);
      this.write(y, x, fixed);
    }
    const keep = Math.max(0, ready - WAVELET_RADIUS);
    this.held = windowOf(held, span(keep - this.top, held.height), span(0, this.width));
    this.top = keep;
    this.done = ready;
  }
}

/** Writer with AdaIN, which needs whole-image statistics: rows wait unrounded, 12 bytes for each pixel. */
class AdainWriter extends CanvasWriter {
  private readonly own = new Moments();
  private readonly wanted = new Moments();
  private readonly pieces: { rows: Span; cols: Span; values: Planes }[] = [];

  override push(rows: Planes): void {
    for (const [y, x] of blocks(span(0, rows.height), this.width)) {
      const values = windowOf(rows, y, x);
      const place = span(this.done + y.start, this.done + y.stop);
      this.own.add(values);
      this.wanted.add(this.source(place, x));
      this.pieces.push({ rows: place, cols: x, values });
    }
    this.done += rows.height;
  }

  override close(): void {
    for (const { rows, cols, values } of this.pieces) {
      const fixed = adain(values, this.own, this.wanted);
      this.areas.follow(fixed, this.source(rows, cols), rows, cols);
      this.write(rows, cols, fixed);
    }
  }
}

function* blocks(rows: Span, width: number): Generator<[Span, Span]> {
  for (let y = rows.start; y < rows.stop; y += BLOCK) {
    for (let x = 0; x < width; x += BLOCK) {
      yield [span(y, Math.min(y + BLOCK, rows.stop)), span(x, Math.min(x + BLOCK, width))];
    }
  }
}

function widened(part: Span, length: number): Span {
  return span(Math.max(0, part.start - WAVELET_RADIUS), Math.min(length, part.stop + WAVELET_RADIUS));
}

function within(part: Span, whole: Span): Span {
  return span(part.start - whole.start, part.stop - whole.start);
}
