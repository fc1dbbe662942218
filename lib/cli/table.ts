// Small tables and numbers for people.
import { clock, short } from '../base/progress.js'

export { percent } from '../base/progress.js'

/** Rows in columns, two spaces apart; numbers-to-be are already text. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((r) => (r[i] ?? '').length)))
  return rows.map((r) => r.map((cell, i) => (i === r.length - 1 ? cell : cell.padEnd(widths[i]!))).join('  ').trimEnd()).join('\n')
}

/** "3.214 -> 2.107", or "-" without held-out rows. */
export function change(before: number | undefined, after: number | undefined): string {
  return before === undefined || after === undefined ? '-' : `${short(before)} -> ${short(after)}`
}

/** 1536 -> "1.5 KiB" */
export function bytes(n: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let i = 0
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024
  return `${i === 0 ? n : n.toFixed(1)} ${units[i]}`
}

/** Seconds as a clock, tenths below a minute. */
export const duration = (seconds: number): string => (seconds < 60 ? `${seconds.toFixed(1)} s` : clock(seconds))
