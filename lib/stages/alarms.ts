// Alarms in words for the known ways in which PPO fails. Pure: numbers in, sentences out. Each alarm speaks once and then stays
// silent until it has been quiet for a while; its memory is a few numbers, which go into the checkpoint.
import { short } from '../base/progress.js'

/** Of one experience. */
export interface ExperienceReading {
  /** Mean score; the same less the KL penalty. */
  scores: number
  rlhfReward: number
  /** Nats per answer. */
  kl: number
  /** Mean and standard deviation, tokens. */
  length: number
  lengthStd: number
  /** Shares: answers cut by their limit, scores beyond --reward-clip. */
  cut: number
  clipped: number
}

/** Of one optimizer step. */
export interface UpdateReading {
  /** Mean of new / old probability. */
  ratio: number
  /** Nats per token. */
  entropy: number
}

/** Of the held-out prompts. */
export interface HeldOutReading {
  score: number
  standardError: number
}

/** With what training scored at that time, null before the first experience. */
type Judged = HeldOutReading & { training: number | null }

/** All that is remembered; JSON. */
export interface AlarmState {
  /** The newest last, at most twice `WINDOW`. */
  experiences: ExperienceReading[]
  firstLengthStd: number | null
  /** Of the last three steps. */
  updates: UpdateReading[]
  firstEntropy: number | null
  /** The evaluation with the highest score and the newest one. */
  best: Judged | null
  latest: Judged | null
  /** Alarms that have spoken, and how often they have been quiet since. */
  active: Record<string, number>
}

/** Experiences that a mean is taken over where it is asked whether something rises. */
const WINDOW = 4
const inARow = 3

interface Rule {
  /** What is wrong, what to try; null while all is well. */
  (state: AlarmState): string | null
}

const finite = (reading: object): boolean => Object.values(reading).every(Number.isFinite)
const percent = (share: number): string => `${Math.round(share * 100)} %`

function last<T>(list: readonly T[], count: number): readonly T[] | null {
  return list.length >= count ? list.slice(-count) : null
}

function meanOf(list: readonly ExperienceReading[], key: 'scores' | 'rlhfReward'): { mean: number; error: number } {
  const mean = list.reduce((sum, e) => sum + e[key], 0) / list.length
  const variance = list.reduce((sum, e) => sum + (e[key] - mean) ** 2, 0) / (list.length - 1)
  return { mean, error: variance / list.length }
}

/** How far the mean of the last `WINDOW` experiences lies above that of those before, in standard errors. */
function rise(all: readonly ExperienceReading[], key: 'scores' | 'rlhfReward'): number {
  const [before, now] = [meanOf(all.slice(0, WINDOW), key), meanOf(all.slice(WINDOW), key)]
  return (now.mean - before.mean) / Math.sqrt(Math.max(before.error + now.error, Number.MIN_VALUE))
}

const perExperience: Readonly<Record<string, Rule>> = {
  /** Healthy runs stay below 0.3. */
  kl_high: ({ experiences }) => {
    const { kl, length } = experiences.at(-1)!
    return kl / length > 0.5 ? `the actor is ${short(kl / length)} nats per token away from the reference, more than 0.5. Try a larger --kl-coef, --kl-target, or a lower --actor-learning-rate` : null
  },
  /** TRL's bound: a mean that is no estimate of a KL any more. */
  kl_negative: ({ experiences }) => {
    const { kl } = experiences.at(-1)!
    return kl < -1 ? `the KL from the reference is ${short(kl)} nats per answer, and a true one is never negative: answers are drawn otherwise than the actor thinks. Try --top-k 0 --top-p 1, --kl-estimator k3, or a lower --actor-learning-rate` : null
  },
  kl_outgrows: ({ experiences }) => {
    const all = last(experiences, 2 * WINDOW)
    return all && rise(all, 'scores') > 2 && rise(all, 'rlhfReward') < -2 ? 'the score rises, but less than what its KL penalty costs: the actor leaves the reference for little. Try a lower --actor-learning-rate, or to stop here' : null
  },
  scores_clipped: ({ experiences }) => {
    const { clipped } = experiences.at(-1)!
    return clipped >= 0.5 ? `${percent(clipped)} of the scores are beyond --reward-clip and look alike to the actor. Try --reward-clip 0, or a reward model trained with --center-rewards-coefficient 0.01` : null
  },
  answers_cut: ({ experiences }) => {
    const lately = last(experiences, inARow)
    return lately?.every((e) => e.cut >= 0.9) ? `${percent(lately.at(-1)!.cut)} of the answers are cut by --max-answer-seq-len: the actor does not end them. Try a longer limit, --missing-eos-penalty 1, or an SFT model trained on rows with end tokens` : null
  },
  length_collapse: ({ experiences, firstLengthStd }) => {
    const lately = last(experiences, inARow)
    return lately && firstLengthStd! > 0 && lately.every((e) => e.lengthStd <= 0.1 * firstLengthStd!)
      ? `answers have collapsed to one length, ${short(lately.at(-1)!.length)} tokens, where they varied by ${short(firstLengthStd!)}. Unless the task asks for that: try a larger --kl-coef, --entropy-coef 0.01, or a reward model that does not go by length`
      : null
  },
}

const perUpdate: Readonly<Record<string, Rule>> = {
  /** Its expectation is 1, and healthy runs stay within 2 %. */
  ratio: ({ updates }) => {
    const { ratio } = updates.at(-1)!
    return ratio < 0.8 || ratio > 1.25 ? `the mean ratio of new to old probabilities is ${short(ratio)}, far from 1: the updates leave the answers they learn from behind. Try a lower --actor-learning-rate, fewer --ppo-epochs, or --stop-kl 0.02` : null
  },
  entropy_collapse: ({ updates, firstEntropy }) => {
    const lately = last(updates, inARow)
    return lately && firstEntropy! > 0 && lately.every((u) => u.entropy < 0.1 * firstEntropy!)
      ? `the actor's entropy is ${short(lately.at(-1)!.entropy)} nats per token, less than a tenth of the ${short(firstEntropy!)} it began with: it explores no more. Try --entropy-coef 0.01, a larger --kl-coef, or a lower --actor-learning-rate`
      : null
  },
}

const perEvaluation: Readonly<Record<string, Rule>> = {
  heldout_falls: ({ best, latest }) => {
    const [then, now] = [best?.training ?? null, latest?.training ?? null]
    if (!best || !latest || then === null || now === null || now <= then || best.score - latest.score <= 2 * Math.hypot(best.standardError, latest.standardError)) return null
    return `the training score rose from ${short(then)} to ${short(now)} while that of held-out prompts fell from ${short(best.score)} to ${short(latest.score)}: the actor learns its prompts by heart. Try fewer --num-train-epochs, more prompts, or the checkpoint of the better evaluation`
  },
}

/** How often in a row an alarm must be quiet before it may speak again. */
const kinds = { experience: [perExperience, 3], update: [perUpdate, 20], evaluation: [perEvaluation, 1] } as const

/** Of all alarms. */
export const alarmNames = Object.values(kinds).flatMap(([rules]) => Object.keys(rules))

export class Alarms {
  #state: AlarmState

  constructor(state: AlarmState | null = null) {
    this.#state = state ?? { experiences: [], firstLengthStd: null, updates: [], firstEntropy: null, best: null, latest: null, active: {} }
  }

  /** Each `see` takes a reading in and gives what is to be said now; one that is not finite says nothing of these failures. */
  seeExperience(reading: ExperienceReading): string[] {
    if (!finite(reading)) return []
    const s = this.#state
    s.experiences = [...s.experiences, reading].slice(-2 * WINDOW)
    s.firstLengthStd ??= reading.lengthStd
    for (const judged of [s.best, s.latest]) if (judged) judged.training ??= reading.scores
    return this.#check('experience')
  }

  seeUpdate(reading: UpdateReading): string[] {
    if (!finite(reading)) return []
    const s = this.#state
    s.updates = [...s.updates, reading].slice(-inARow)
    s.firstEntropy ??= reading.entropy
    return this.#check('update')
  }

  seeHeldOut({ score, standardError }: HeldOutReading): string[] {
    if (!finite({ score, standardError })) return []
    const s = this.#state
    const lately = s.experiences.slice(-WINDOW)
    s.latest = { score, standardError, training: lately.length === 0 ? null : lately.reduce((sum, e) => sum + e.scores, 0) / lately.length }
    if (!s.best || score > s.best.score) s.best = s.latest
    return this.#check('evaluation')
  }

  /** Names of the alarms that are on. */
  get active(): string[] {
    return Object.keys(this.#state.active)
  }

  /** A copy, for the checkpoint. */
  get state(): AlarmState {
    return structuredClone(this.#state)
  }

  #check(kind: keyof typeof kinds): string[] {
    const [rules, quiet] = kinds[kind]
    const { active } = this.#state
    const out: string[] = []
    for (const [name, rule] of Object.entries(rules)) {
      const message = rule(this.#state)
      const spoken = name in active
      if (message !== null) {
        if (!spoken) out.push(`alarm ${name}: ${message}.`)
        active[name] = 0
      } else if (spoken && ++active[name]! >= quiet) {
        delete active[name]
        out.push(`alarm ${name}: over.`)
      }
    }
    return out
  }
}
