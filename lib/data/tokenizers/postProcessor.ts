/** "post_processor" of a tokenizer.json, for one text: the ids that stand before it and after it. */
import type { Place } from './place.js'

export interface Surroundings {
  readonly before: readonly number[]
  readonly after: readonly number[]
}

const nothing: Surroundings = { before: [], after: [] }

/** Errors name the field; an id that no token has is one. */
export function readPostProcessor(place: Place, hasId: (id: number) => boolean): Surroundings {
  if (place.isMissing) return nothing
  const idAt = (at: Place): number => {
    const id = at.count()
    return hasId(id) ? id : at.fail('the id of a token')
  }
  switch (place.field('type').string()) {
    case 'Sequence':
      return place
        .field('processors')
        .items()
        .map((item) => readPostProcessor(item, hasId))
        .reduce((inner, outer) => ({ before: [...outer.before, ...inner.before], after: [...inner.after, ...outer.after] }), nothing)
    case 'ByteLevel':
      return nothing
    case 'BertProcessing':
    case 'RobertaProcessing':
      return { before: [idAt(place.field('cls').item(1))], after: [idAt(place.field('sep').item(1))] }
    case 'TemplateProcessing':
      return template(place, idAt)
  }
  return place.field('type').fail('a post-processor that is known')
}

function template(place: Place, idAt: (at: Place) => number): Surroundings {
  const before: number[] = []
  const after: number[] = []
  let texts = 0
  for (const item of place.field('single').items()) {
    const special = item.field('SpecialToken')
    if (special.isMissing) {
      const sequence = item.field('Sequence').field('id')
      if (sequence.string() !== 'A' || ++texts > 1) sequence.fail('the text "A", once')
      continue
    }
    const name = special.field('id').string()
    const known = place.field('special_tokens').field(name)
    if (known.isMissing) special.field('id').fail('a token of "special_tokens"')
    const ids = known.field('ids').items().map(idAt)
    for (const id of ids) (texts === 0 ? before : after).push(id)
  }
  if (texts === 0) place.field('single').fail('the text "A", once', 'no text')
  return { before, after }
}
