import { describe, expect, it } from "vitest";
import { enlargeAlpha } from "../src/engine/enlarge_alpha";
import { fillTransparent } from "../src/engine/fill_transparent";
import { roundHalfEven, span, toByte, type Pixels, type Planes } from "../src/engine/images";
import { decode, encode } from "../src/engine/latents";
import { DEFAULTS, outputSize, visiblePart } from "../src/engine/options";
import { EnlargedImage, OutOfMemoryError, paddedPositions, restorePixels } from "../src/engine/restore";
import { axisTiles, axisWeights, planTiles, smallerPlan } from "../src/engine/tile_plan";

function noise(height: number, width: number, channels = 3): Pixels {
  let seed = 7;
  const data = Uint8Array.from({ length: height * width * channels }, () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return seed >>> 24;
  });
  return { data, height, width, channels };
}

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let largest = a.length === b.length ? 0 : Infinity;
  for (let i = 0; i < a.length; i++) largest = Math.max(largest, Math.abs(a[i] - b[i]));
  return largest;
}

const unchanged = async (latents: Planes): Promise<Planes> => latents;

describe("rounding", () => {
  it("takes the even neighbour at a half, as Python does", () => {
    expect([0.5, 1.5, 2.5, 2.4, 2.6].map(roundHalfEven)).toEqual([0, 2, 2, 2, 3]);
    expect([-0.1, 0, 0.5 / 255, 1, 1.1].map(toByte)).toEqual([0, 0, 0, 255, 255]);
  });
});

describe("sizes", () => {
  it("rounds as Python does", () => expect(outputSize(5, 7, { ...DEFAULTS, scale: 2.5 })).toEqual([12, 18]));
  it("fits a target", () => {
    expect(outputSize(70, 64, { ...DEFAULTS, target: [200, 190] })).toEqual([190, 174]);
    expect(outputSize(70, 64, { ...DEFAULTS, target: [200, 180], fit: "cover" })).toEqual([180, 200]);
    expect(visiblePart(70, 64, { ...DEFAULTS, target: [200, 180], fit: "cover" })).toEqual([span(6, 64), span(0, 64)]);
  });
  it("refuses targets that shrink a side", () => {
    expect(() => outputSize(70, 64, { ...DEFAULTS, target: [60, 300] })).toThrow("both sides must grow");
  });
});

describe("tiles", () => {
  it("cover an axis with weights that sum to one", () => {
    for (const length of [272, 1024, 1040, 3008]) {
      const tiles = axisTiles(length, planTiles([length, length], 256));
      const sums = new Float64Array(length);
      axisWeights(tiles).forEach((weights, i) =>
        weights.forEach((weight, at) => (sums[tiles.starts[i] + at] += weight)),
      );
      expect(Math.max(...sums.map((sum) => Math.abs(sum - 1)))).toBeLessThan(1e-6);
      expect(tiles.starts.at(-1)! + tiles.tile).toBe(length);
    }
  });
  it("are planned as in Python", () => {
    expect(planTiles([1024, 1024], "auto").tile).toBeNull();
    expect(planTiles([1025, 1024], "auto")).toEqual({ tile: 1024, overlap: 128, least: 256 });
    expect(axisTiles(1600, planTiles([1600, 1024], "auto"))).toEqual({ length: 1600, tile: 864, starts: [0, 736] });
    expect(() => planTiles([100, 100], 32)).toThrow("at least 64");
  });
  it("become smaller down to 64 pixels", () => {
    const edges = [];
    for (let plan = smallerPlan(planTiles([512, 512], "auto"), [512, 512]); plan; plan = smallerPlan(plan, [512, 512]))
      edges.push(plan.tile);
    expect(edges).toEqual([256, 128, 64]);
  });
});

describe("padding", () => {
  it("mirrors, or repeats the last position of a short axis", () => {
    expect(Array.from(paddedPositions(14, 4))).toEqual([...Array(14).keys(), 12, 11]);
    expect(Array.from(paddedPositions(1, 4))).toEqual([0, 0, 0, 0]);
  });
});

describe("latents", () => {
  it("are exact", () => {
    const image = new EnlargedImage(noise(16, 32), [16, 32]).window(span(0, 16), span(0, 32));
    expect(largestDifference(decode(encode(image)).data, image.data)).toBeLessThan(1e-6);
  });
});

describe("a restoration that changes nothing", () => {
  const pixels = noise(40, 60);
  const run = (options: object) => restorePixels(pixels, [120, 180], { ...DEFAULTS, ...options }, unchanged, () => {});
  it("gives the bicubic enlargement, tiled or not", async () => {
    const whole = await run({ colorFix: "none" });
    for (const colorFix of ["none", "wavelet", "adain"]) {
      const tiled = await run({ colorFix, tile: 64 });
      expect(largestDifference(tiled.data, whole.data)).toBeLessThanOrEqual(1);
    }
  });
  it("keeps pixels at scale 1", async () => {
    expect((await restorePixels(pixels, [40, 60], { ...DEFAULTS, scale: 1 }, unchanged, () => {})).data).toEqual(
      pixels.data,
    );
  });
  it("tells each tile, and ends at an exception", async () => {
    const told: number[][] = [];
    await restorePixels(
      pixels,
      [120, 180],
      { ...DEFAULTS, tile: 128 },
      unchanged,
      (done, total) => void told.push([done, total]),
    );
    expect(told).toEqual([
      [1, 2],
      [2, 2],
    ]);
    const stop = () => {
      throw new Error("stop");
    };
    await expect(restorePixels(pixels, [120, 180], { ...DEFAULTS, tile: 128 }, unchanged, stop)).rejects.toThrow(
      "stop",
    );
  });
  it("takes smaller tiles where memory runs out", async () => {
    const edges = new Set<number>();
    const small = async (latents: Planes) => {
      edges.add(latents.width);
      if (latents.width > 20) throw new OutOfMemoryError("no memory");
      return latents;
    };
    const result = await restorePixels(pixels, [120, 180], { ...DEFAULTS, colorFix: "none" }, small, () => {});
    expect(largestDifference(result.data, (await run({ colorFix: "none" })).data)).toBeLessThanOrEqual(1);
    expect(edges.size).toBeGreaterThan(1);
  });
});

describe("what the result follows", () => {
  const offset = async (latents: Planes): Promise<Planes> => ({
    ...latents,
    data: latents.data.map((value, i) => value + (i % 7) / 5),
  });
  it("stays flat where the input is flat", async () => {
    const flat = { ...noise(24, 24), data: new Uint8Array(24 * 24 * 3).fill(90) };
    expect(new Set((await restorePixels(flat, [48, 48], DEFAULTS, offset, () => {})).data)).toEqual(new Set([90]));
  });
  it("stays grey where the input is grey", async () => {
    const grey = noise(24, 24, 1);
    const rgb = {
      ...grey,
      channels: 3,
      data: Uint8Array.from({ length: 24 * 24 * 3 }, (_, i) => grey.data[Math.floor(i / 3)]),
    };
    const { data } = await restorePixels(rgb, [48, 48], DEFAULTS, offset, () => {});
    const plane = (channel: number) => data.filter((_, i) => i % 3 === channel);
    expect([plane(1), plane(2)]).toEqual([plane(0), plane(0)]);
    const single = await restorePixels(grey, [48, 48], DEFAULTS, offset, () => {});
    expect(largestDifference(single.data, plane(0))).toBeLessThanOrEqual(1);
  });
  it("refuses values that are not finite", async () => {
    const broken = async (latents: Planes): Promise<Planes> => ({ ...latents, data: latents.data.map(() => NaN) });
    await expect(restorePixels(noise(16, 16), [16, 16], { ...DEFAULTS, scale: 1 }, broken, () => {})).rejects.toThrow(
      "not finite",
    );
  });
});

describe("transparency", () => {
  it("takes the colours of what is visible", () => {
    const pixels = { ...noise(9, 9), data: Uint8Array.from({ length: 243 }, (_, i) => (i % 27 < 12 ? 200 : 0)) };
    const alpha = { height: 9, width: 9, data: Uint8Array.from({ length: 81 }, (_, i) => (i % 9 < 4 ? 255 : 0)) };
    expect(new Set(fillTransparent(pixels, alpha).data)).toEqual(new Set([200]));
  });
  it("keeps edges and shrinks to itself", () => {
    const alpha = { height: 70, width: 70, data: Uint8Array.from({ length: 4900 }, (_, i) => (i % 70 < 30 ? 0 : 255)) };
    const { data } = enlargeAlpha(alpha, [140, 140]);
    expect(data[59]).toBeLessThan(60);
    expect(data[60]).toBeGreaterThan(195);
    expect([data[50], data[69]]).toEqual([0, 255]);
  });
});
