// Runs the network beside the page, tile by tile. WebGPU where the browser has it, WebAssembly otherwise.
let ready;
let settings;
let runtime = 'WebAssembly';

async function hasWebGpu() {
  try {
    return Boolean(self.navigator.gpu && (await self.navigator.gpu.requestAdapter()));
  } catch {
    return false;
  }
}

async function load() {
  const gpu = await hasWebGpu();
  const ort = await import(gpu ? './ort/ort.webgpu.bundle.min.mjs' : './ort/ort.wasm.bundle.min.mjs');
  const binary = gpu ? './ort/ort-wasm-simd-threaded.asyncify.wasm' : './ort/ort-wasm-simd-threaded.wasm';
  ort.env.wasm.wasmPaths = { wasm: new URL(binary, import.meta.url).href }; // the script that loads it is in the bundle
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(8, self.navigator.hardwareConcurrency || 1) : 1;
  const model = new Uint8Array(await (await fetch(new URL('./model.onnx', import.meta.url))).arrayBuffer());
  let session;
  if (gpu) {
    try {
      session = await ort.InferenceSession.create(model, { executionProviders: ['webgpu'] });
      runtime = 'WebGPU';
    } catch {
      session = undefined; // the GPU lacks something; the same module computes on the CPU
    }
  }
  session ??= await ort.InferenceSession.create(model, { executionProviders: ['wasm'] });
  return { ort, session };
}

// Planar RGB in [0, 1] of the part [left, right) x [top, bottom) of an RGBA image.
function cut(pixels, width, left, top, right, bottom) {
  const w = right - left;
  const area = w * (bottom - top);
  const planes = new Float32Array(3 * area);
  for (let y = top, i = 0; y < bottom; y++) {
    for (let x = left; x < right; x++, i++) {
      const p = 4 * (y * width + x);
      planes[i] = pixels[p] / 255;
      planes[area + i] = pixels[p + 1] / 255;
      planes[2 * area + i] = pixels[p + 2] / 255;
    }
  }
  return planes;
}

// Opacity, enlarged linearly.
function enlargeAlpha(pixels, width, height, scale, result) {
  for (let y = 0; y < height * scale; y++) {
    const v = Math.min(Math.max((y + 0.5) / scale - 0.5, 0), height - 1);
    const y0 = Math.floor(v);
    const y1 = Math.min(y0 + 1, height - 1);
    for (let x = 0; x < width * scale; x++) {
      const u = Math.min(Math.max((x + 0.5) / scale - 0.5, 0), width - 1);
      const x0 = Math.floor(u);
      const x1 = Math.min(x0 + 1, width - 1);
      const alpha = (i, j) => pixels[4 * (i * width + j) + 3];
      const upper = alpha(y0, x0) + (alpha(y0, x1) - alpha(y0, x0)) * (u - x0);
      const lower = alpha(y1, x0) + (alpha(y1, x1) - alpha(y1, x0)) * (u - x0);
      result[4 * (y * width * scale + x) + 3] = Math.round(upper + (lower - upper) * (v - y0));
    }
  }
}

// Half away from an even number, as PyTorch rounds.
function rounded(value) {
  const level = Math.min(Math.max(value, 0), 1) * 255;
  const whole = Math.round(level);
  return whole - level === 0.5 && whole % 2 === 1 ? whole - 1 : whole;
}

// 0 to 1 over the `blend` pixels on both sides of `start`; 1 where nothing lies before.
function share(position, start, blend) {
  return start === 0 || blend === 0 ? 1 : Math.min(1, Math.max(0, (position + 0.5 - start + blend) / (2 * blend)));
}

async function enlarge({ pixels, width, height }) {
  const { ort, session } = await ready;
  const { scale, tile, overlap } = settings;
  const blend = settings.blend * scale;
  const result = new Uint8ClampedArray(4 * width * height * scale * scale);
  const columns = Math.ceil(width / tile);
  const rows = Math.ceil(height / tile);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const [x0, y0] = [column * tile, row * tile];
      const [x1, y1] = [Math.min(x0 + tile, width), Math.min(y0 + tile, height)];
      const [left, top] = [Math.max(0, x0 - overlap), Math.max(0, y0 - overlap)];
      const [right, bottom] = [Math.min(width, x1 + overlap), Math.min(height, y1 + overlap)];
      const shape = [1, 3, bottom - top, right - left];
      const tensor = new ort.Tensor('float32', cut(pixels, width, left, top, right, bottom), shape);
      const output = (await session.run({ lq: tensor })).sr;
      const values = await output.getData();
      const [lineLength, area] = [shape[3] * scale, shape[2] * shape[3] * scale * scale];
      const [fromX, fromY] = [Math.max(0, x0 * scale - blend), Math.max(0, y0 * scale - blend)];
      const [toX, toY] = [Math.min(width * scale, x1 * scale + blend), Math.min(height * scale, y1 * scale + blend)];
      for (let y = fromY; y < toY; y++) {
        for (let x = fromX; x < toX; x++) {
          const source = (y - top * scale) * lineLength + x - left * scale;
          const target = 4 * (y * width * scale + x);
          const part = share(x, x0 * scale, blend) * share(y, y0 * scale, blend);
          for (let c = 0; c < 3; c++) {
            const value = values[c * area + source];
            result[target + c] = part === 1 ? rounded(value) : rounded(value * part + (result[target + c] / 255) * (1 - part));
          }
        }
      }
      output.dispose();
      self.postMessage({ kind: 'progress', done: row * columns + column + 1, all: rows * columns });
    }
  }
  enlargeAlpha(pixels, width, height, scale, result);
  self.postMessage({ kind: 'done', pixels: result, width: width * scale, height: height * scale }, [result.buffer]);
}

self.onmessage = async ({ data }) => {
  try {
    if (data.settings) {
      settings = data.settings;
      ready = load();
      await ready;
      self.postMessage({ kind: 'ready', runtime });
    } else {
      await enlarge(data);
    }
  } catch (error) {
    self.postMessage({ kind: 'error', text: `This cannot be computed here: ${error.message ?? error}` });
  }
};
