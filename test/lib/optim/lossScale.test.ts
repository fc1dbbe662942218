// The loss scale against DeepSpeed's DynamicLossScaler, written down from its source (deepspeed/runtime/fp16/loss_scaler.py,
// update_scale): it counts iterations from the last overflow, ours counts clean steps.
import test from 'ava'
import fc from 'fast-check'

import { LossScale } from '../../../lib/optim/lossScale.js'
import { holds } from '../property.js'

class DynamicLossScaler {
  iter = 0
  lastOverflow = -1
  hysteresis: number

  constructor(
    public scale: number,
    readonly window: number,
    readonly delayedShift: number,
    readonly min: number,
  ) {
    this.hysteresis = delayedShift
  }

  update(overflow: boolean): void {
    if (overflow) {
      if (this.delayedShift === 1 || this.hysteresis === 1) this.scale = Math.max(this.scale / 2, this.min)
      else this.hysteresis--
      this.lastOverflow = this.iter
    } else if ((this.iter - this.lastOverflow) % this.window === 0) {
      this.hysteresis = this.delayedShift
      this.scale *= 2
    }
    this.iter++
  }
}

test('defaults are those of DeepSpeed-Chat', (t) => {
  const scale = new LossScale()
  t.is(scale.scale, 65536)
  for (let i = 0; i < 99; i++) scale.grow()
  t.is(scale.scale, 65536)
  scale.grow()
  t.is(scale.scale, 131072)
  t.true(scale.shrink())
  t.is(scale.scale, 131072, 'the first overflow costs patience')
  t.true(scale.shrink())
  t.is(scale.scale, 65536, 'the second one the scale')
})

test('any run of overflows gives the scales of DynamicLossScaler, also from a state put back', (t) => {
  const agree = (overflows: boolean[], window: number, hysteresis: number): boolean => {
    const options = { initial: 16, window, hysteresis, min: 1 }
    const theirs = new DynamicLossScaler(16, window, hysteresis, 1)
    let ours = new LossScale(options)
    return overflows.every((overflow, i) => {
      const couldFall = theirs.scale > 1 || theirs.hysteresis > 1
      theirs.update(overflow)
      const fell = overflow ? ours.shrink() : (ours.grow(), couldFall)
      if (i % 7 === 3) {
        const again = new LossScale(options)
        again.restore(JSON.parse(JSON.stringify(ours.state)) as typeof ours.state)
        ours = again
      }
      return fell === couldFall && ours.scale === theirs.scale
    })
  }
  holds(t, fc.property(fc.array(fc.boolean(), { maxLength: 60 }), fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 3 }), agree), 300)
})
