import test from 'ava'
import { chatAnswer, chatSegments, renderMessages, transcriptStyle } from '../../../lib/data/chatTemplate.js'
import { failsWith } from './support.js'

const chatMl = {
  chatTemplate:
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + eos_token + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
  bosToken: '<s>',
  eosToken: '</s>',
}
const conversation = [
  { role: 'user', content: 'a' },
  { role: 'assistant', content: 'b' },
  { role: 'user', content: 'c' },
  { role: 'assistant', content: 'd' },
]

test('without a template: the transcript form, system text first', (t) => {
  const messages = [{ role: 'system', content: 'Be kind.' }, ...conversation.slice(0, 3)]
  const expected = 'Be kind.\n\nHuman: a\n\nAssistant: b\n\nHuman: c'
  t.is(renderMessages(messages, transcriptStyle, { generationPrompt: false }), expected)
  t.is(renderMessages(messages, transcriptStyle, { generationPrompt: true }), `${expected}\n\nAssistant:`)
})

test('with a template: what the template says', (t) => {
  const text = renderMessages(conversation.slice(0, 1), chatMl, { generationPrompt: true })
  t.is(text, '<s><|user|>a</s>\n<|assistant|>')
})

test('segments are the rendered text, answers apart', (t) => {
  for (const style of [transcriptStyle, chatMl]) {
    const segments = chatSegments(conversation, style)
    t.is(segments.map(({ text }) => text).join(''), renderMessages(conversation, style, { generationPrompt: false }))
    t.deepEqual(
      segments.map(({ answer }) => answer),
      [false, true, false, true],
    )
  }
  t.deepEqual(
    chatSegments(conversation, transcriptStyle)
      .filter(({ answer }) => answer)
      .map(({ text }) => text),
    [' b', ' d'],
  )
  t.deepEqual(
    chatSegments(conversation, chatMl)
      .filter(({ answer }) => answer)
      .map(({ text }) => text),
    ['b</s>\n', 'd</s>\n'],
  )
})

test('an answer that the template drops later stays in the prompt', (t) => {
  const forgetful = {
    ...chatMl,
    chatTemplate:
      "{% for m in messages %}{% if m.role == 'user' or loop.last %}{{ m.role + ':' + m.content + ';' }}{% endif %}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}",
  }
  t.deepEqual(chatSegments(conversation, forgetful), [
    { text: 'user:a;user:c;assistant:', answer: false },
    { text: 'd;', answer: true },
  ])
})

test('chatAnswer gives the prompt and what follows it', (t) => {
  t.deepEqual(chatAnswer(conversation.slice(0, 1), conversation.slice(1, 2), transcriptStyle), {
    prompt: '\n\nHuman: a\n\nAssistant:',
    answer: ' b',
  })
})

test('errors: unknown role, broken template, refused messages, a template that does not extend', async (t) => {
  const render = (messages: typeof conversation, chatTemplate: string | null) => () =>
    renderMessages(messages, { ...chatMl, chatTemplate }, { generationPrompt: false })
  await failsWith(t, render([{ role: 'tool', content: '' }], null), '"tool"', 'message 1')
  await failsWith(t, render(conversation, '{% if %}'), '[chat template]')
  await failsWith(t, render(conversation, "{{ raise_exception('no such role') }}"), 'no such role')
  const backwards = { ...chatMl, chatTemplate: '{% for m in messages[::-1] %}{{ m.content }}{% endfor %}' }
  await failsWith(t, () => chatSegments(conversation, backwards), 'where the answer in message 2 begins and ends')
})
