// Whether a reward model's margins mean what they say: p = sigmoid(chosen - rejected) as the probability that the chosen
// answer is the better one (Bradley and Terry 1952).
import { commonLength } from './checks.js'
import { logSigmoid, sigmoid } from './logSigmoid.js'

export interface Calibration {
  /**
   * Expected calibration error over ten equal bins of p (Guo et al. 2017, eq. 3): the weighted mean over the bins of
   * |mean p - share of better answers|. Each pair stands in both orders, (p, better) and (1 - p, worse): which of the two is
   * named first is arbitrary, and with one order alone every outcome would be the same.
   */
  error: number
  /** Mean of (1 - p)^2 (Brier 1950): 0 is certain and right, 1/4 knows nothing. */
  brier: number
  /** Mean of -log p, in nats: ln 2 knows nothing. */
  logLoss: number
}

const bins = 10

/** Of pairs with margins chosen - rejected [n] and weights [n]; null without pairs. */
export function calibration(margins: ArrayLike<number>, weights: ArrayLike<number>): Calibration | null {
  const n = commonLength('calibration', { margins, weights })
  const gaps = new Float64Array(bins)
  let [total, squares, logs] = [0, 0, 0]
  for (let i = 0; i < n; i++) {
    const [margin, weight] = [margins[i]!, weights[i]!]
    for (const [p, outcome] of [[sigmoid(margin), 1], [sigmoid(-margin), 0]] as const) gaps[Math.min(bins - 1, Math.floor(bins * p))]! += weight * (p - outcome)
    total += weight
    squares += weight * sigmoid(-margin) ** 2
    logs -= weight * logSigmoid(margin)
  }
  if (!(total > 0)) return null
  return { error: gaps.reduce((sum, gap) => sum + Math.abs(gap), 0) / (2 * total), brier: squares / total, logLoss: logs / total }
}
