// Against figures of SciPy 1.x and statsmodels, and published examples.
import test from 'ava'

import { ThreefoldError } from '../../../lib/base/errors.js'
import { cohenKappa, quantile, ratioOfSums, signTest, student95, studentInterval } from '../../../lib/base/inference.js'
import { RandomSequence } from '../../../lib/base/random.js'
import { RunningSums } from '../../../lib/base/statistics.js'
import { gap, normals } from '../rlhf/support.js'

// scipy.stats.t.ppf(0.975, df); 100 and 101 are the last of the series and the first of the expansion
const points: [freedom: number, t: number][] = [[1, 12.706204736174694], [2, 4.302652729749462], [3, 3.1824463052837078], [4, 2.7764451051977934], [7, 2.364624251592784], [30, 2.0422724563012378], [99, 1.9842169515864174], [127, 1.9788195347028539], [1000, 1.9623390808264083], [1000000, 1.959966356814107]]

test("Student's points are SciPy's", (t) => {
  for (const [freedom, point] of points) t.true(Math.abs(student95(freedom) - point) < 1e-9, `${freedom}: ${student95(freedom)}`)
  t.true(student95(100) > student95(101) && student95(100) - student95(101) < 3e-4, 'no step between the two ways')
  for (const freedom of [0, -1, 1.5, NaN]) t.throws(() => student95(freedom), { instanceOf: ThreefoldError, message: /a whole number of degrees of freedom/ })
})

test("Student's interval covers the mean of five normals about as often as it says; one of the normal distribution does not", (t) => {
  const random = new RandomSequence(8, 1)
  let covered = 0
  let narrow = 0
  for (let trial = 0; trial < 4000; trial++) {
    const sums = new RunningSums().addAll(normals(random, 5))
    const [low, high] = studentInterval(sums.mean, sums.standardError, 5)!
    if (low <= 0 && 0 <= high) covered++
    if (Math.abs(sums.mean) <= 1.96 * sums.standardError) narrow++
  }
  t.true(covered / 4000 > 0.935 && covered / 4000 < 0.965, `${covered / 4000}`)
  t.true(narrow / 4000 < 0.9)
  t.is(studentInterval(1, Infinity, 1), null)
})

test("the sign test is SciPy's binomtest", (t) => {
  const cases: [wins: number, losses: number, p: number][] = [[8, 2, 0.109375], [15, 5, 0.04138946533203125], [60, 40, 0.05688793364098089], [300, 250, 0.036578745549102676], [0, 6, 0.03125], [5, 5, 1], [1200, 1100, 0.03896685268382023], [0, 0, 1]]
  for (const [wins, losses, p] of cases) {
    t.true(Math.abs(signTest(wins, losses) - p) < 1e-11, `${wins}:${losses} ${signTest(wins, losses)}`)
    t.is(signTest(wins, losses), signTest(losses, wins))
  }
  for (const wrong of [-1, 0.5, NaN]) t.throws(() => signTest(wrong, 2), { instanceOf: ThreefoldError, message: /leaving ties out/ })
})

test("quantiles are NumPy's", (t) => {
  const values = [3, 1, 4, 1, 5, 9, 2, 6]
  t.true(gap([0, 0.5, 0.95, 1].map((q) => quantile(values, q)), [1, 3.5, 7.95, 9]) < 1e-14)
  t.is(quantile([7], 0.95), 7)
  t.true(Number.isNaN(quantile([], 0.5)))
  t.deepEqual(values, [3, 1, 4, 1, 5, 9, 2, 6], 'the list is left as it is')
})

test('a ratio of sums by hand, and against its spread over many samples', (t) => {
  // ratio 12 / 6 = 2; residuals 0, 1, -1; sqrt(3 / 2 * 2) / 6
  const { ratio, standardError } = ratioOfSums([2, 5, 5], [1, 2, 3])
  t.true(gap([ratio, standardError], [2, Math.sqrt(3) / 6]) < 1e-14)
  t.is(ratioOfSums([2], [1]).standardError, Infinity)
  const random = new RandomSequence(9, 1)
  const ratios = new RunningSums()
  const errors = new RunningSums()
  for (let trial = 0; trial < 1500; trial++) {
    const counts = Array.from({ length: 60 }, () => 1 + random.below(20))
    // tokens of one row share the row's own level: they are no independent observations
    const levels = normals(random, 60)
    const result = ratioOfSums(counts.map((n, i) => n * (3 + levels[i]!)), counts)
    ratios.add(result.ratio)
    errors.add(result.standardError)
  }
  t.true(Math.abs(errors.mean / ratios.standardDeviation - 1) < 0.06, `${errors.mean} ${ratios.standardDeviation}`)
  t.throws(() => ratioOfSums([1], []), { message: /a count for each sum/ })
})

test("Cohen's kappa: the example of Fleiss, Cohen and Everitt (1969), and statsmodels", (t) => {
  const published = cohenKappa([[106, 10, 4], [22, 28, 10], [2, 12, 6]])
  t.true(gap([published.agreement, published.kappa!, published.standardError!], [0.7, 3 / 7, 0.05371100486916735]) < 1e-12)
  t.true(gap(published.interval!, [0.32329979345440496, 0.533843063688452]) < 1e-12)
  const two = cohenKappa([[20, 5], [10, 15]])
  t.true(gap([two.kappa!, two.standardError!], [0.4, 0.12699606293110033]) < 1e-12)
  t.true(gap(cohenKappa([[5, 20], [10, 15]]).kappa!, (0.4 - 0.5) / 0.5) < 1e-12, 'less than chance is negative')
})

test("Cohen's kappa at its edges", (t) => {
  t.like(cohenKappa([[10, 0], [0, 10]]), { agreement: 1, kappa: 1, standardError: 0, interval: [1, 1] })
  t.deepEqual(cohenKappa([[7, 0], [0, 0]]), { agreement: 1, kappa: null, standardError: null, interval: null })
  t.throws(() => cohenKappa([[0, 0], [0, 0]]), { instanceOf: ThreefoldError, message: /judges who saw the same items/ })
  t.throws(() => cohenKappa([[1, 2]]), { instanceOf: ThreefoldError })
})
