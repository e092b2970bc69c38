/** In-place radix-2 FFT of one line; the length is a power of two. */
function fft(real, imaginary) {
  const n = real.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [real[i], real[j]] = [real[j], real[i]];
      [imaginary[i], imaginary[j]] = [imaginary[j], imaginary[i]];
    }
  }
  for (let size = 2; size <= n; size *= 2) {
    const half = size / 2;
    for (let k = 0; k < half; k++) {
      const c = Math.cos((-2 * Math.PI * k) / size);
      const s = Math.sin((-2 * Math.PI * k) / size);
      for (let a = k; a < n; a += size) {
        const b = a + half;
        const r = real[b] * c - imaginary[b] * s;
        const i = real[b] * s + imaginary[b] * c;
        real[b] = real[a] - r;
        imaginary[b] = imaginary[a] - i;
        real[a] += r;
        imaginary[a] += i;
      }
    }
  }
}

/** Log magnitude of the windowed centre square, zero frequency in the middle: {edge, values}. */
function spectrumOf(pixels) {
  const edge = 2 ** Math.floor(Math.log2(Math.min(pixels.width, pixels.height, 512)));
  const left = (pixels.width - edge) >> 1;
  const top = (pixels.height - edge) >> 1;
  const window = Float64Array.from({ length: edge }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * (i + 0.5)) / edge));
  const rows = [];
  let mean = 0;
  for (let y = 0; y < edge; y++) {
    const row = new Float64Array(edge);
    for (let x = 0; x < edge; x++) {
      const p = 4 * ((top + y) * pixels.width + left + x);
      row[x] = (pixels.data[p] + pixels.data[p + 1] + pixels.data[p + 2]) / 765;
      mean += row[x] / edge ** 2;
    }
    rows.push(row);
  }
  const imaginary = rows.map((row, y) => {
    for (let x = 0; x < edge; x++) row[x] = (row[x] - mean) * window[x] * window[y];
    const other = new Float64Array(edge);
    fft(row, other);
    return other;
  });
  const values = new Float64Array(edge * edge);
  const half = edge / 2;
  for (let x = 0; x < edge; x++) {
    const re = Float64Array.from(rows, (row) => row[x]);
    const im = Float64Array.from(imaginary, (row) => row[x]);
    fft(re, im);
    for (let y = 0; y < edge; y++)
      values[((y + half) % edge) * edge + ((x + half) % edge)] = Math.log10(Math.hypot(re[y], im[y]) + 1e-3);
  }
  return { edge, values };
}

/** Draw a spectrum, the periods 8, 4 and 2 pixels marked on the horizontal axis. */
function drawSpectrum(canvas, pixels) {
  const { edge, values } = spectrumOf(pixels);
  canvas.width = canvas.height = edge;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const image = context.createImageData(edge, edge);
  values.forEach((value, i) => {
    const level = (255 * (value + 2.5)) / 5; // 0.003 is black, 300 is white
    image.data.set([level, level, level, 255], 4 * i);
  });
  context.putImageData(image, 0, 0);
  context.fillStyle = "#ffb347";
  context.font = `${Math.max(9, edge / 32)}px system-ui`;
  context.textAlign = "right";
  for (const period of [8, 4, 2]) {
    const x = edge / 2 + edge / period;
    context.fillRect(x - 1, edge - edge / 40, 1, edge / 40);
    context.fillText(`${period} px`, x - 3, edge - 3);
  }
}
