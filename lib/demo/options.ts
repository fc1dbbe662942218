// Options of `threefold demo`.
import { option } from '../base/options.js'
import { machineOptions } from '../stages/options.js'

export const demoOptions = {
  seed: option.integer(1, 'the world, the model and every random number follow from it', { min: 0 }),
  device: machineOptions.device,
  dtype: machineOptions.dtype,
  quick: option.flag(false, 'a few steps of each stage: shows that a device works, teaches nothing'),
  threads: option.integer(0, 'compute threads, 0 = all cores; never changes a result', { min: 0, max: 1024 }),
  outputDir: option.text('runs/demo', 'folder of the run: data, models, metrics, samples'),
  control: option.flag(false, 'also run PPO on a reward model trained with shuffled labels, which must gain nothing'),
  checkLogprobs: option.flag(true, 'recompute every recorded log-prob and report the gap'),
}
