// Options of `threefold label`.
import { option } from '../base/options.js'

export const labelOptions = {
  input: option.optionalText('rows {prompt, responses: [a, b]} or with chosen and rejected answers, such as samples.jsonl of eval: a data file or a folder of them'),
  output: option.optionalText('JSONL file that the labels are added to; threefold reward reads it'),
  labeler: option.optionalText('who chooses; rows that this labeler has labelled in --output are left out'),
  seed: option.integer(1234, 'which answer stands on the left follows from it, the labeler and the row', { min: 0 }),
  agreement: option.texts('instead: files of labels, of which the agreement between labelers is measured'),
}
