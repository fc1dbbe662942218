import test from 'ava'
import { chatAnswer, chatSegments } from '../../../lib/data/chatTemplate.js'
import { compileJinja } from '../../../lib/data/jinja.js'
import { pairKind, tokenizeRows } from '../../../lib/data/tokenize.js'
import { failsWith, tinyTokenizer, vocabSize } from './support.js'

const render = (source: string, values: Record<string, unknown> = {}): string => compileJinja(source, 'chat_template.jinja').render(values)

test('strings are those of Python', (t) => {
  t.is(render("{{ '\\n a\\n'.lstrip('\\n') }}|{{ 'xyaxy'.strip('yx') }}|{{ ' a '.rstrip() }}|"), ' a\n|a| a|')
  t.is(render('{{ text | trim }}|{{ text.strip() }}', { text: '\ufeff\u001c a \u0085' }), '\ufeff\u001c a|\ufeff\u001c a')
  t.is(render("{{ 'aBC dE'.capitalize() }} {{ 'aBC' | capitalize }} {{ text | length }}", { text: '👍a' }), 'Abc de Abc 2')
  t.is(render('{{ [1, 2] | length }} {{ {"a": 1} | length }}'), '2 1')
})

test('a generation block is a call block: its marks stand where its text does', (t) => {
  const source = 'a\n{%- generation %}\n b {% endgeneration -%}\n c'
  const jinja = compileJinja(source, 'chat_template.jinja')
  t.true(jinja.marksGeneration)
  t.is(jinja.render({}), 'a b c')
  t.is(jinja.render({}, { open: '<', close: '>' }), 'a< b >c')
})

test.serial('a template that would never end, or fill the memory, is stopped', async (t) => {
  const endless: readonly (readonly [string, string])[] = [
    ['{% for a in range(10000) %}{% for b in range(10000) %}{{ a }}{% endfor %}{% endfor %}', 'more than'],
    ['{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}', 'more than'],
    ['{% for i in range(100000000) %}{% endfor %}', 'the number 100000000'],
    ['{% for i in range(100000) %}{% endfor %}', 'a range of 100000 numbers'],
    ["{% set ns = namespace(s='aaaaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}", 'a text of more than'],
    ["{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}", 'a list of'],
    ["{{ 'a\\nb' | indent(100000000) }}", 'the number 100000000'],
    ['{{ 10 ** 9 }}', 'the number'],
  ]
  for (const [source, words] of endless) {
    let seconds = Infinity
    const timed = (): void => {
      const started = performance.now()
      try {
        render(source)
      } finally {
        seconds = (performance.now() - started) / 1000
      }
    }
    await failsWith(t, timed, '[chat template]', 'reasonable time and size', words)
    t.true(seconds < 4, source)
  }
  await failsWith(t, () => compileJinja('a'.repeat(300_000), 'x.jinja'), 'at most 262144 characters in x.jinja', '300000')
  await failsWith(t, () => compileJinja(' '.repeat(2000), 'x.jinja'), 'white space characters in a row')
  await failsWith(t, () => compileJinja('{{ ' + '('.repeat(50_000), 'x.jinja'), 'a Jinja template')
})

const chat = [
  { role: 'user', content: 'a' },
  { role: 'assistant', content: 'b' },
  { role: 'user', content: 'c' },
  { role: 'assistant', content: 'd' },
]
const style = (chatTemplate: string, addedTokens: string[] = []) => ({ chatTemplate, bosToken: '<s>', eosToken: '</s>', addedTokens })
const each = (body: string, tail = ''): string => `{% for m in messages %}${body}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}${tail}`

test('what cannot be proven about an answer is refused', async (t) => {
  const refused: readonly (readonly [string, string])[] = [
    [each("{{ m.role + ':' + m.content | upper + ';' }}", '{% if not add_generation_prompt %}.{% endif %}'), 'changes the content'],
    [each("{{ m.role + ':' + m.content + m.content + ';' }}", '{% if not add_generation_prompt %}.{% endif %}'), 'writes it more than once'],
    [each("{{ m.role + ':' + m.content + ';' }}{% if m.content == 'b' %}!{% endif %}", '{% if not add_generation_prompt %}.{% endif %}'), 'depends on what it says'],
    [each("{{ m.role + ':' + m.content + ';' }}", '{% if not add_generation_prompt %}.{% endif %}'), 'changes once more follows'],
    [each("{{ 'says ' + m.role + ':' + m.content + ';' }}", '{% if not add_generation_prompt %}.{% endif %}'), 'is not its generation prompt'],
    ['{% for m in messages[::-1] %}{{ m.content }};{% endfor %}', 'answer in message'],
    ["{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}{% set x %}{% generation %}y{% endgeneration %}{% endset %}{{ x | length }}", 'changes what stands in {% generation %}'],
  ]
  for (const [template, words] of refused) await failsWith(t, () => chatSegments(chat, style(template)), 'a chat template that shows where the answer in message', words)
})

test.serial('many renders of a slow template are stopped as well', async (t) => {
  // Each is fast enough alone; 150 answers need 300 of them.
  const slow = each("{{ m.role + ':' + m.content + ';' }}", "{% for i in range(200) %}{% for j in range(200) %}{{ '' }}{% endfor %}{% endfor %}")
  const long = Array.from({ length: 300 }, (_, i) => ({ role: i % 2 === 0 ? 'user' : 'assistant', content: `x${i}` }))
  const started = performance.now()
  await failsWith(t, () => chatSegments(long, { ...style(slow), chatTemplateFile: 'slow.jinja' }), '[chat template]', 'rendered in reasonable time', 'slow.jinja')
  t.true(performance.now() - started < 6000)
})

test('a text of its own behind the whole conversation: the end mark is seen where added tokens part', (t) => {
  const template = each("{{ '<|' + m.role + '|>' + (' ' if m.role == 'assistant' else '') + m.content + '<|end|>' }}", "{% if not add_generation_prompt %}{{ '<|eos|>' }}{% endif %}").replace('assistant:', '<|assistant|>')
  const tokens = ['<|user|>', '<|assistant|>', '<|end|>', '<|eos|>']
  const answers = chatSegments(chat, style(template, tokens)).filter(({ answer }) => answer)
  t.deepEqual(answers.map(({ text }) => text), [' b<|end|>', ' d<|end|><|eos|>'])
})

test('two answers whose questions are written differently are refused', async (t) => {
  // Writes how the first answer begins before the question.
  const template = "{{ messages[-1].content[0] }}{% for m in messages %}{{ m.role + ':' + m.content + ';' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
  const tokenizer = tinyTokenizer({ settings: { chatTemplate: template } })
  const answer = (content: string) => [{ role: 'assistant', content }]
  const at = { file: 'rows.jsonl', line: 3, unit: 'line' } as const
  const row = { kind: 'messagePreference', prompt: chat.slice(0, 1), chosen: answer('x1'), rejected: answer('y1'), at } as const
  await failsWith(t, () => tokenizeRows(pairKind, [row], { tokenizer, vocabSize }), 'where the answer in message 2')
  t.deepEqual(chatAnswer(chat.slice(0, 1), answer('d'), { chatTemplate: each("{{ m.role + ':' + m.content + ';' }}"), bosToken: null, eosToken: null }), { prompt: 'user:a;assistant:', answer: 'd;' })
})
