/** Python's roundings, where the server's arithmetic has them. */

/** To the nearest whole number; from halfway to the even one. */
export function round(value: number): number {
  const low = Math.floor(value);
  const rest = value - low;
  if (rest !== 0.5) return rest < 0.5 ? low : low + 1;
  return low % 2 === 0 ? low : low + 1;
}

export function clip(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}
