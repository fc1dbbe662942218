// One score from several reward models: mean - coef x standard deviation (over the M models, divided by M). Where the models
// disagree an actor has left what they were trained on, and the mean alone would pay it for that. Coste et al. 2023 (reward
// model ensembles help mitigate overoptimization), "uncertainty-weighted optimization", subtract the variance; the standard
// deviation has the unit of the score.
import { commonLength } from './checks.js'

/** Scores of n answers by each of M >= 1 models; both results [n]. */
export function ensembleScores(models: readonly ArrayLike<number>[], coef: number): { scores: Float64Array; spreads: Float64Array } {
  const n = commonLength('ensemble', Object.fromEntries(models.map((scores, m) => [`model ${m + 1}`, scores])))
  const [scores, spreads] = [new Float64Array(n), new Float64Array(n)]
  for (let i = 0; i < n; i++) {
    const mean = models.reduce((sum, of) => sum + of[i]!, 0) / models.length
    spreads[i] = Math.sqrt(models.reduce((sum, of) => sum + (of[i]! - mean) ** 2, 0) / models.length)
    scores[i] = mean - coef * spreads[i]!
  }
  return { scores, spreads }
}

/** Share of pairs, by their weights [n], that both models order alike, from their margins [n]; where one sees no difference, half. NaN without pairs. */
export function agreement(a: ArrayLike<number>, b: ArrayLike<number>, weights: ArrayLike<number>): number {
  const n = commonLength('agreement', { a, b, weights })
  let [alike, total] = [0, 0]
  for (let i = 0; i < n; i++) {
    alike += (weights[i]! * (1 + Math.sign(a[i]!) * Math.sign(b[i]!))) / 2
    total += weights[i]!
  }
  return alike / total
}
