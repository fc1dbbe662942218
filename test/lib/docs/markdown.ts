// Just enough Markdown for the tests of docs/: sections, tables, fenced blocks.

/** Text below each second-level heading, by title. */
export function sectionsOf(page: string): Map<string, string> {
  const parts = page.split(/^## (.+)$/m)
  const sections = new Map<string, string>()
  for (let i = 1; i < parts.length; i += 2) sections.set(parts[i]!.trim(), parts[i + 1]!)
  return sections
}

/** The rows of all tables in a text, headings and rules left out. `\|` is a bar inside a cell. */
export function cells(text: string): string[][] {
  const lines = text.split('\n')
  const isRule = (line: string | undefined): boolean => line !== undefined && /^\|(\s*:?-+:?\s*\|)+$/.test(line)
  return lines
    .filter((line, i) => line.startsWith('|') && !isRule(line) && !isRule(lines[i + 1]))
    .map((line) => line.slice(1, line.lastIndexOf('|')).split(/(?<!\\)\|/).map((cell) => cell.trim()))
}

/** Fenced blocks of one language, in order. */
export function fenced(text: string, language: string): string[] {
  return [...text.matchAll(/^```(\S*)\n([\s\S]*?)^```$/gm)].filter((m) => m[1] === language).map((m) => m[2]!)
}
