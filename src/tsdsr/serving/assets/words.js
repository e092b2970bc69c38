/** Numbers as people read them. */

export const pixels = ({ width, height }) => `${width} × ${height}`;

export function bytes(count) {
  if (count < 1e6) return `${Math.max(1, Math.round(count / 1e3))} kB`;
  return count < 1e9 ? `${Number((count / 1e6).toPrecision(2))} MB` : `${Number((count / 1e9).toPrecision(2))} GB`;
}

/** A time that is left; coarse, because it is an estimate. */
export function about(seconds) {
  if (seconds < 5) return "a few seconds";
  if (seconds < 55) return `about ${Math.ceil(seconds / 5) * 5} s`;
  if (seconds < 3600) return `about ${Math.round(seconds / 60) || 1} min`;
  return `about ${Number((seconds / 3600).toFixed(1))} h`;
}

export const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
