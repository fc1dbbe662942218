// The adaptive KL controller against cases worked out from its formula.
import test from 'ava'

import { nextKlCoef } from '../../../lib/rlhf/klController.js'

test('the coefficient moves by the clipped relative error, in proportion to the samples', (t) => {
  const close = (a: number, b: number): void => void t.true(Math.abs(a - b) < 1e-15, `${a} ${b}`)
  close(nextKlCoef(0.2, { kl: 6, target: 6, horizon: 10000, samples: 256 }), 0.2)
  close(nextKlCoef(0.2, { kl: 6.6, target: 6, horizon: 10000, samples: 256 }), 0.2 * (1 + 0.1 * 0.0256))
  close(nextKlCoef(0.2, { kl: 60, target: 6, horizon: 10000, samples: 256 }), 0.2 * (1 + 0.2 * 0.0256))
  close(nextKlCoef(0.2, { kl: 0, target: 6, horizon: 10000, samples: 256 }), 0.2 * (1 - 0.2 * 0.0256))
  close(nextKlCoef(0.2, { kl: -1, target: 6, horizon: 1000, samples: 1000 }), 0.2 * 0.8)
})
