/** Blending of tiles that arrive row by row; memory holds one row of tiles. */

import { newPlanes, span, windowOf, type Planes } from "./images";
import { axisWeights, type AxisTiles } from "./tile_plan";

export class BandBlender {
  private readonly rowWeights: Float32Array[];
  private readonly colWeights: Float32Array[];
  private band: Planes | null = null;
  private carry: Planes | null = null; // overlap of the finished row of tiles with the next

  constructor(
    private readonly rows: AxisTiles,
    private readonly cols: AxisTiles,
  ) {
    this.rowWeights = axisWeights(rows);
    this.colWeights = axisWeights(cols);
  }

  /** Add the tile of a grid position to the current row. */
  add(row: number, col: number, tile: Planes): void {
    if (this.rows.starts.length === 1 && this.cols.starts.length === 1) {
      this.band = tile;
      return;
    }
    this.band ??= this.newBand(tile);
    const { band } = this;
    const [down, across, left] = [this.rowWeights[row], this.colWeights[col], this.cols.starts[col]];
    for (let channel = 0; channel < tile.channels; channel++) {
      for (let y = 0; y < tile.height; y++) {
        const weight = down[y];
        const from = (channel * tile.height + y) * tile.width;
        const to = (channel * band.height + y) * band.width + left;
        for (let x = 0; x < tile.width; x++) band.data[to + x] += tile.data[from + x] * (weight * across[x]);
      }
    }
  }

  /** Return the rows that later rows of tiles do not change. Call when `row` is complete. */
  finish(row: number): Planes {
    const { band } = this;
    if (band === null) throw new Error("no tile was added");
    this.band = null;
    if (row + 1 === this.rows.starts.length) return band;
    const finished = this.rows.starts[row + 1] - this.rows.starts[row];
    const cols = span(0, band.width);
    this.carry = windowOf(band, span(finished, band.height), cols);
    return windowOf(band, span(0, finished), cols);
  }

  private newBand(tile: Planes): Planes {
    const band = newPlanes(tile.channels, tile.height, this.cols.length);
    const { carry } = this;
    if (carry !== null) {
      const size = carry.height * carry.width;
      for (let channel = 0; channel < band.channels; channel++) {
        band.data.set(carry.data.subarray(channel * size, (channel + 1) * size), channel * band.height * band.width);
      }
    }
    return band;
  }
}
