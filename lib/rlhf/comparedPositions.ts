// Which positions of two answers a loss on every position compares. Both rows begin with the same prompt; t counts from
// the row's start, and position t of one is compared with position t of the other.
import { fail } from '../base/errors.js'

/** Positions from <= t < to. */
export interface Span {
  from: number
  to: number
}

/** The first position at which the ids differ; where one row begins with the other, the shorter length. */
function parting(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const shorter = Math.min(a.length, b.length)
  let t = 0
  while (t < shorter && a[t] === b[t]) t++
  return t
}

/** From where the rows part to the end of the shorter one; null where they part nowhere before it (equal rows, too). */
export function sharedSpan(a: ArrayLike<number>, b: ArrayLike<number>): Span | null {
  const [from, to] = [parting(a, b), Math.min(a.length, b.length)]
  return from < to ? { from, to } : null
}

/** How DeepSpeed-Chat's reward model sees padding. */
export interface Padding {
  padId: number
  /** Padding tokens that a tokenizer puts before a row (OPT's start token is its padding): they are no end. */
  atBeginning: number
  /** Rows are padded behind their end to this length. */
  length: number
}

/** One behind the position of a row's score there: the (atBeginning + 1)-th padding token, those behind the row's end included. */
export function paddedEnd(ids: ArrayLike<number>, { padId, atBeginning, length }: Padding): number {
  let before = atBeginning
  for (let t = 0; t < ids.length; t++) if (ids[t] === padId && before-- === 0) return t
  return Math.min(ids.length + before, length)
}

/**
 * DeepSpeed-Chat's span (its reward model's forward): from where the padded rows part to the later of the two ends, so that
 * the shorter row is compared with its padding. Equal rows compare their last position, which gives ln 2 and no gradient.
 * Error: a prompt with more padding tokens than `atBeginning`, which ends a row before its answer (a mean of nothing there).
 */
export function paddedSpan(a: ArrayLike<number>, b: ArrayLike<number>, padding: Padding): Span {
  const longer = a.length > b.length ? a : b
  const ends = [paddedEnd(a, padding), paddedEnd(b, padding)]
  const to = Math.max(...ends)
  let from = parting(a, b)
  while (from < longer.length && from >= Math.min(a.length, b.length) && longer[from] === padding.padId) from++
  if (from === longer.length) from = to - 1
  if (Math.min(...ends) > 0 && from < to) return { from, to }
  return fail('--compat', `at most ${padding.atBeginning} padding tokens (id ${padding.padId}) before an answer`, `rows that end at position ${ends.join(' and ')} and part at ${from}`, 'another --num-padding-at-beginning or --pad-token-id')
}
