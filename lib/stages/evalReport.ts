// report.html: one file that opens offline. All text is in the page itself, escaped; the script only sorts and hides what is there, so
// no text ever becomes code, and without a script everything can still be read.
import { short } from '../base/progress.js'
import { showControls } from '../base/visible.js'
import type { EvalResult, EvalSample } from './eval.js'
import type { SummaryTable } from './evalSummary.js'
import { summaryTables } from './evalSummary.js'
import { shownText } from './promptText.js'

/** Text for the inside of an element or of a quoted attribute. Control characters, which HTML forbids, become their pictures. */
export function escapeHtml(text: string): string {
  const names: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }
  return showControls(text.replace(/[&<>"']/g, (c) => names[c]!))
}

export function evalReport(result: EvalResult, samples: readonly EvalSample[]): string {
  const { model, against, reward, rows, settings } = result
  const names = [model, against].flatMap((m) => (m ? [m.name] : []))
  const title = names.length > 0 ? names.join(' against ') : `reward model ${reward?.name ?? ''}`
  const facts = [
    ...(reward ? [`scored by ${reward.name}`] : []),
    `${rows.read} rows of ${settings.dataPath.join(', ')}`,
    `${samples.length} of ${rows.prompts} prompts answered`,
    ...(rows.unscored > 0 ? [`${rows.unscored} too long to be scored`] : []),
    `seed ${settings.seed}`,
  ]
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>${escapeHtml(title)}</title>
<style>${style}</style>
</head>
<body>
<header>
<h1>${escapeHtml(title)}</h1>
<p>${escapeHtml(facts.join('; '))}. After ±: standard errors; in brackets: 95 % intervals.</p>
</header>
<main>
${result.comparison ? barHtml(result.comparison) : ''}
${summaryTables(result).map(tableHtml).join('\n')}
${samples.length > 0 ? `<h2>Answers</h2>\n${controls(samples)}\n<div id="samples">\n${samples.map(sampleHtml).join('\n')}\n</div>` : ''}
</main>
<script>${script}</script>
</body>
</html>
`
}

function tableHtml({ title, rows }: SummaryTable): string {
  const cells = (row: readonly string[], i: number): string => row.map((cell, c) => (c === 0 ? `<th scope="row">${escapeHtml(cell)}</th>` : i === 0 && row[0] === '' ? `<th scope="col">${escapeHtml(cell)}</th>` : `<td>${escapeHtml(cell)}</td>`)).join('')
  return `<section><h2>${escapeHtml(title)}</h2><div class="wide"><table>${rows.map((row, i) => `<tr>${cells(row, i)}</tr>`).join('')}</table></div></section>`
}

function barHtml({ wins, ties, losses, prompts }: NonNullable<EvalResult['comparison']>): string {
  const part = (name: string, count: number): string => (count === 0 ? '' : `<span class="${name}" style="flex-grow:${count}" title="${name}: ${count} of ${prompts}">${count}</span>`)
  return `<div class="bar" role="img" aria-label="model wins ${wins}, ties ${ties}, against wins ${losses}">${part('model', wins)}${part('tie', ties)}${part('against', losses)}</div>`
}

function controls(samples: readonly EvalSample[]): string {
  const compared = samples.some(({ winner }) => winner !== null)
  const scored = samples.some(({ scores }) => scores[0] !== null)
  const options = (list: readonly (readonly [string, string])[]): string => list.map(([value, words]) => `<option value="${value}">${words}</option>`).join('')
  const sorts = [['place', 'order of the rows'], ...(compared ? [['down', 'largest difference for the model'], ['up', 'largest difference against it'], ['close', 'closest first']] : scored ? [['down', 'highest score'], ['up', 'lowest score']] : [])] as [string, string][]
  const filters = [['all', 'all'], ...(compared ? [['model', 'the model wins'], ['against', 'the other wins'], ['tie', 'ties']] : []), ['cut', 'cut by the limit']] as [string, string][]
  return `<form id="controls" hidden><label>Sort <select id="sort">${options(sorts)}</select></label> <label>Show <select id="show">${options(filters)}</select></label> <label>Find <input id="find" type="search"></label> <output id="shown"></output></form>`
}

/** The line end behind <pre> is no part of the text: HTML drops one there. */
function sampleHtml({ prompt, responses, models, tokens, finish, scores, winner }: EvalSample, place: number): string {
  const [score, other] = scores
  const key = typeof score === 'number' && typeof other === 'number' ? score - other : scores.length === 1 && typeof score === 'number' ? score : null
  const won = (i: number): boolean => winner === (i === 0 ? 'model' : 'against')
  const answers = responses.map((text, i) => {
    const facts = [scores[i] === null ? '' : `score ${short(scores[i]!)}`, `${tokens[i]} token${tokens[i] === 1 ? '' : 's'}`, finish[i] === 'length' ? 'cut by the limit' : '', won(i) ? 'wins' : ''].filter(Boolean)
    return `<div class="answer${won(i) ? ' won' : ''}"><h4>${escapeHtml(models[i]!)}</h4><p class="facts">${facts.join(', ')}</p><pre dir="auto">\n${escapeHtml(text)}</pre></div>`
  })
  const difference = winner === null ? '' : winner === 'tie' ? ', tie' : `, difference ${short(score! - other!)}`
  return `<article data-place="${place}" data-key="${key ?? ''}" data-winner="${winner ?? ''}" data-cut="${finish.includes('length') ? 1 : 0}"><h3>Prompt ${place + 1}${difference}</h3><pre class="prompt" dir="auto">\n${escapeHtml(shownText(prompt))}</pre><div class="answers">${answers.join('')}</div></article>`
}

const style = `
:root{--ground:#fff;--card:#f5f6f8;--text:#1b1f24;--soft:#57606a;--line:#d0d7de;--model:#0b6e4f;--against:#9a3412;--tie:#6b7280}
@media (prefers-color-scheme:dark){:root{--ground:#0f1318;--card:#191f26;--text:#e6edf3;--soft:#9aa6b2;--line:#303a45;--model:#4cc38a;--against:#f0955c;--tie:#9aa6b2}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:76rem;padding:1rem;background:var(--ground);color:var(--text);font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.4rem;overflow-wrap:anywhere}h2{font-size:1.1rem;margin:1.6rem 0 .5rem}h3,h4{font-size:.95rem;margin:0 0 .4rem;overflow-wrap:anywhere}
header p,.facts,th{color:var(--soft)}.facts{margin:0 0 .4rem;font-size:.85rem}
.wide{overflow-x:auto}table{border-collapse:collapse}th,td{text-align:left;padding:.25rem 1rem .25rem 0;border-bottom:1px solid var(--line);font-weight:normal;font-variant-numeric:tabular-nums;vertical-align:top}
.bar{display:flex;margin:.8rem 0;border-radius:.4rem;overflow:hidden;color:var(--ground);font-size:.85rem}.bar span{flex:0 1 0;padding:.1rem .4rem;min-width:fit-content}
.bar .model{background:var(--model)}.bar .against{background:var(--against)}.bar .tie{background:var(--tie)}
#controls{display:flex;flex-wrap:wrap;gap:.6rem 1.2rem;margin-bottom:1rem;color:var(--soft)}#controls[hidden]{display:none}
select,input{font:inherit;max-width:100%;color:var(--text);background:var(--card);border:1px solid var(--line);border-radius:.3rem;padding:.15rem .4rem}
article{border:1px solid var(--line);border-radius:.6rem;padding:.9rem;margin:0 0 1rem;background:var(--card)}
pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;font:.9rem/1.5 ui-monospace,monospace}
.prompt{margin-bottom:.8rem;padding-left:.7rem;border-left:3px solid var(--line)}
.answers{display:grid;gap:.8rem}@media (min-width:44rem){.answers{grid-template-columns:repeat(2,minmax(0,1fr))}.answer:only-child{grid-column:1/-1}}
.answer{background:var(--ground);border:1px solid var(--line);border-radius:.4rem;padding:.7rem;min-width:0}
.answer.won{border-color:var(--model);box-shadow:inset 3px 0 var(--model)}
.answer:nth-child(2).won{border-color:var(--against);box-shadow:inset 3px 0 var(--against)}
`

const script = `
(() => {
  const controls = document.getElementById('controls')
  if (!controls) return
  const list = document.getElementById('samples')
  const cards = Array.from(list.children)
  const value = (id) => document.getElementById(id).value
  const key = (card, none) => (card.dataset.key === '' ? none : Number(card.dataset.key))
  const orders = {
    place: (a, b) => a.dataset.place - b.dataset.place,
    down: (a, b) => key(b, -Infinity) - key(a, -Infinity),
    up: (a, b) => key(a, Infinity) - key(b, Infinity),
    close: (a, b) => Math.abs(key(a, Infinity)) - Math.abs(key(b, Infinity)),
  }
  const update = () => {
    const order = orders[value('sort')]
    const show = value('show')
    const find = value('find').toLowerCase()
    let shown = 0
    for (const card of cards.sort((a, b) => order(a, b) || orders.place(a, b))) {
      list.appendChild(card)
      const fits = show === 'all' || (show === 'cut' ? card.dataset.cut === '1' : card.dataset.winner === show)
      card.hidden = !(fits && card.textContent.toLowerCase().includes(find))
      if (!card.hidden) shown++
    }
    document.getElementById('shown').textContent = shown + ' of ' + cards.length
  }
  controls.addEventListener('input', update)
  controls.addEventListener('submit', (event) => event.preventDefault())
  controls.hidden = false
  update()
})()
`
