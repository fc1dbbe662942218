// What a labeler sees: the prompt, two answers side by side where there is room, else below each other.
import { showControls } from '../base/visible.js'
import { shownText } from '../stages/promptText.js'
import type { PromptText } from '../stages/promptText.js'

/** Columns that two answers need to stand side by side. */
const narrow = 80
const gap = ' | '

export const keyHelp = 'l or left arrow: left is better   r or right arrow: right is better   t: tie   b: both bad   s: skip   u: take back   q: end'

/** The text of one screen; `columns` wide. */
export function labelScreen(heading: string, prompt: PromptText, left: PromptText, right: PromptText, columns: number): string {
  const rule = '-'.repeat(columns)
  return [heading, rule, ...wrap(shownText(prompt), columns), rule, ...answers(left, right, columns), rule, ...wrap(keyHelp, columns)].join('\n') + '\n'
}

function answers(left: PromptText, right: PromptText, columns: number): string[] {
  if (columns < narrow) return ['LEFT', ...wrap(shownText(left), columns), '', 'RIGHT', ...wrap(shownText(right), columns)]
  const width = Math.floor((columns - gap.length) / 2)
  const [a, b] = [left, right].map((text) => wrap(shownText(text), width)) as [string[], string[]]
  const lines = Array.from({ length: Math.max(a.length, b.length) }, (_, i) => beside(a[i] ?? '', b[i] ?? '', width))
  return [beside('LEFT', 'RIGHT', width), ...lines]
}

const beside = (a: string, b: string, width: number): string => (a + ' '.repeat(Math.max(0, width - textWidth(a))) + gap + b).trimEnd()

const graphemes = new Intl.Segmenter(undefined, { granularity: 'grapheme' })

/** East Asian wide characters and emoji take two columns. */
const wide = /[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Hang}\u3000-\u303f\uff00-\uff60]|\p{Emoji_Presentation}/u

const widthOf = (grapheme: string): number => (wide.test(grapheme) ? 2 : 1)
const textWidth = (text: string): number => Array.from(graphemes.segment(text), ({ segment }) => widthOf(segment)).reduce((a, b) => a + b, 0)

/** Lines of at most `width` columns, cut at spaces where there are any. Control characters are shown, not obeyed. */
export function wrap(text: string, width: number): string[] {
  return showControls(text).replaceAll('\t', '    ').split('\n').flatMap((line) => wrapLine(line, width))
}

function wrapLine(line: string, width: number): string[] {
  const lines: string[] = []
  let current: string[] = []
  let used = 0
  for (const { segment } of graphemes.segment(line)) {
    const more = widthOf(segment)
    if (used + more > width) {
      const space = current.lastIndexOf(' ')
      // the space itself goes where it would end the line
      const cut = segment === ' ' || space < 0 ? current.length : space
      lines.push(current.slice(0, cut).join('').trimEnd())
      current = current.slice(cut)
      if (current[0] === ' ') current.shift()
      used = current.reduce((sum, g) => sum + widthOf(g), 0)
      if (segment === ' ' && current.length === 0) continue
    }
    current.push(segment)
    used += more
  }
  return [...lines, current.join('')]
}
