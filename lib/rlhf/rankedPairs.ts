// All pairs of the K ranked answers to one prompt (InstructGPT, Ouyang et al. 2022, section 3.5 and eq. 1): together they
// weigh 1, each 1 / C(K, 2), because pairs that share a prompt are no independent rows.

/** Two of K answers, by their places. */
export interface RankedPair {
  better: number
  worse: number
  /** Both have one rank: neither is better. */
  tie: boolean
}

/** C(K, 2) pairs of answers with these ranks [K]; a smaller rank is better. */
export function rankedPairs(ranks: ArrayLike<number>): RankedPair[] {
  const pairs: RankedPair[] = []
  for (let i = 0; i < ranks.length; i++)
    for (let j = i + 1; j < ranks.length; j++) {
      const swapped = ranks[j]! < ranks[i]!
      pairs.push({ better: swapped ? j : i, worse: swapped ? i : j, tie: ranks[i] === ranks[j] })
    }
  return pairs
}
