import { describe, expect, it, vi } from "vitest";
import { disagreement, probe } from "../src/engine/comparison";
import type { Planes } from "../src/engine/images";
import type { Denoise } from "../src/engine/restore";
import { chooseRuntime } from "../src/worker/runtime";

const scaled =
  (factor: number): Denoise =>
  async (latents: Planes) => ({ ...latents, data: latents.data.map((value) => value * factor) });
const tile = probe(4);

describe("the comparison of a tile", () => {
  it("accepts rounding, and nothing that the eye could see", async () => {
    expect(disagreement(await scaled(1.001)(tile), tile)).toBeNull();
    expect(disagreement(await scaled(1.1)(tile), tile)).toContain("wrong result");
    expect(disagreement(await scaled(NaN)(tile), tile)).toContain("not finite");
  });
});

describe("the choice of a provider", () => {
  const choose = (gpu: Denoise, has = true) =>
    chooseRuntime(async (name) => (name === "webgpu" ? gpu : scaled(2)), has, 3);
  it("takes WebGPU where it agrees", async () => expect((await choose(scaled(2.0002))).provider).toBe("webgpu"));
  it("takes WebAssembly where WebGPU is wrong, and says so", async () => {
    const chosen = await choose(scaled(1));
    expect([chosen.provider, chosen.threads]).toEqual(["wasm", 3]);
    expect(chosen.notice).toContain("WebGPU gave a wrong result");
    expect((await chosen.denoise(tile)).data).toEqual((await scaled(2)(tile)).data);
  });
  it("takes WebAssembly where WebGPU fails", async () => {
    const chosen = await choose(() => Promise.reject(new Error("device lost")));
    expect(chosen.notice).toContain("WebGPU failed (device lost)");
  });
  it("does not open WebGPU where the browser has none", async () => {
    const gpu = vi.fn<Denoise>();
    expect((await choose(gpu, false)).notice).toBeNull();
    expect(gpu).not.toHaveBeenCalled();
  });
  it("goes on in WebAssembly when a tile fails later", async () => {
    let calls = 0;
    const gpu: Denoise = async (latents) => (calls++ ? scaled(NaN)(latents) : scaled(2)(latents));
    const { denoise } = await choose(gpu);
    expect((await denoise(tile)).data).toEqual((await scaled(2)(tile)).data);
    await denoise(tile);
    expect(calls).toBe(2);
  });
});
