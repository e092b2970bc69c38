/** ONNX Runtime Web: `mini` on WebGPU where that gives the right values, else in WebAssembly. */

import type { InferenceSession, Env, TensorConstructor } from "onnxruntime-web";
import modelUrl from "../../../src/tsdsr/weights/mini/denoiser/model.onnx?url";
import weightsUrl from "../../../src/tsdsr/weights/mini/denoiser/diffusion_pytorch_model.safetensors?url";
import { disagreement, probe } from "../engine/comparison";
import type { Planes } from "../engine/images";
import { OutOfMemoryError, type Denoise } from "../engine/restore";

const WEIGHTS = "diffusion_pytorch_model.safetensors"; // the name that the graph has for it
const PROBE_EDGE = 32; // latents: 128 pixels of a picture
const MOST_THREADS = 8;

export type Provider = "webgpu" | "wasm";

export interface Runtime {
  readonly provider: Provider;
  readonly threads: number;
  /** Why WebGPU is not used although the browser has it. */
  readonly notice: string | null;
  readonly denoise: Denoise;
}

interface Library {
  readonly env: Env;
  readonly InferenceSession: typeof InferenceSession;
  readonly Tensor: TensorConstructor;
}

interface Files {
  readonly model: Uint8Array;
  readonly weights: Uint8Array;
}

/** Open the model. `wanted` leaves WebGPU out where it is "wasm"; `most` limits the threads. */
export async function openRuntime(wanted: Provider | "auto", most: number | null): Promise<Runtime> {
  const gpu = wanted !== "wasm" && (await hasGpu());
  const [library, model, weights] = await Promise.all([loadLibrary(gpu), content(modelUrl), content(weightsUrl)]);
  const threads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, most ?? MOST_THREADS) : 1;
  library.env.wasm.numThreads = threads;
  library.env.logLevel = "error";
  return chooseRuntime((provider) => openSession(library, provider, { model, weights }), gpu, threads);
}

/**
 * Compare WebGPU with WebAssembly on one tile, and use it if they agree. After its first failure, all tiles run in
 * WebAssembly.
 */
export async function chooseRuntime(
  open: (provider: Provider) => Promise<Denoise>,
  gpu: boolean,
  threads: number,
): Promise<Runtime> {
  const onCpu = await open("wasm");
  if (!gpu) return { provider: "wasm", threads, notice: null, denoise: onCpu };
  const reason = await (async () => {
    try {
      const onGpu = await open("webgpu");
      const tile = probe(PROBE_EDGE);
      return disagreement(await onGpu(tile), await onCpu(tile)) ?? onGpu;
    } catch (error) {
      return `failed (${message(error)})`;
    }
  })();
  if (typeof reason !== "string") return { provider: "webgpu", threads, notice: null, denoise: watched(reason, onCpu) };
  const notice = `WebGPU ${reason}; the processor is used instead.`;
  return { provider: "wasm", threads, notice, denoise: onCpu };
}

/** A provider with the CPU in reserve. */
function watched(onGpu: Denoise, onCpu: Denoise): Denoise {
  let failed = false;
  return async (latents) => {
    if (!failed) {
      try {
        const result = await onGpu(latents);
        if (result.data.every(Number.isFinite)) return result;
      } catch {
        // lost devices and drivers without memory end here as well
      }
      failed = true;
    }
    return onCpu(latents);
  };
}

async function hasGpu(): Promise<boolean> {
  try {
    return (await navigator.gpu?.requestAdapter()) != null;
  } catch {
    return false;
  }
}

/** Load the library that fits the browser; each has its own WebAssembly file of 14 to 27 MB. */
async function loadLibrary(gpu: boolean): Promise<Library> {
  const [library, wasm, mjs] = await (gpu
    ? "Suspending" in WebAssembly
      ? Promise.all([
          import("onnxruntime-web/jspi"),
          import("onnxruntime-web/ort-wasm-simd-threaded.jspi.wasm?url"),
          import("onnxruntime-web/ort-wasm-simd-threaded.jspi.mjs?url"),
        ])
      : Promise.all([
          import("onnxruntime-web/webgpu"),
          import("onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url"),
          import("onnxruntime-web/ort-wasm-simd-threaded.asyncify.mjs?url"),
        ])
    : Promise.all([
        import("onnxruntime-web/wasm"),
        import("onnxruntime-web/ort-wasm-simd-threaded.wasm?url"),
        import("onnxruntime-web/ort-wasm-simd-threaded.mjs?url"),
      ]));
  library.env.wasm.wasmPaths = { wasm: absolute(wasm.default), mjs: absolute(mjs.default) };
  return library;
}

function absolute(url: string): string {
  return new URL(url, self.location.href).href;
}

async function content(url: string): Promise<Uint8Array> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`The model could not be loaded (status ${response.status}).`);
  return new Uint8Array(await response.arrayBuffer());
}

async function openSession(library: Library, provider: Provider, { model, weights }: Files): Promise<Denoise> {
  const session = await library.InferenceSession.create(model, {
    executionProviders: [provider],
    externalData: [{ path: WEIGHTS, data: weights }],
    enableMemPattern: false, // its plan of one block takes more memory, and no less time
  });
  return async (latents: Planes) => {
    const { channels, height, width } = latents;
    try {
      const input = new library.Tensor("float32", latents.data, [1, channels, height, width]);
      const { z_hat: output } = await session.run({ z_lq: input });
      return { data: output.data as Float32Array, channels, height, width };
    } catch (error) {
      throw isLackOfMemory(error) ? new OutOfMemoryError(message(error)) : error;
    }
  };
}

function isLackOfMemory(error: unknown): boolean {
  return error instanceof RangeError || /alloc|memory|OOM/i.test(message(error));
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
