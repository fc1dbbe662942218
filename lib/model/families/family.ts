// What a family is: two functions. To add one, write a file like opt.ts and list it in registry.ts.
import type { ConfigReader } from '../config.js'
import type { DecoderSpec } from '../spec.js'

export interface Family {
  /** model_type in config.json. */
  type: string
  /** Class names written to "architectures" by the two heads. */
  architectures: { logprob: string; scalar: string }
  spec(config: ConfigReader): DecoderSpec
  /** Our names to Hugging Face names; "{i}" is the layer. The "model." prefix may be missing in a file. */
  weights: Record<string, string>
}
