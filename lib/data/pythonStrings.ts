/** Strings as Python has them, for chat templates. */

const pythonSpace = '[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]'

/** Python's str.strip: white space, or any of the characters given. */
function strip(text: string, characters: string | undefined, left: boolean, right: boolean): string {
  const member = characters === undefined ? new RegExp(pythonSpace) : null
  const units = Array.from(text)
  const goes = (character: string): boolean => (member === null ? characters!.includes(character) : member.test(character))
  let from = 0
  let to = units.length
  while (left && from < to && goes(units[from]!)) from++
  while (right && to > from && goes(units[to - 1]!)) to--
  return units.slice(from, to).join('')
}

/** By name: methods and filters of strings that chat templates use and JavaScript's own do otherwise. */
export const pythonStrings: Readonly<Record<string, (text: string, argument?: string) => string>> = {
  strip: (text, characters) => strip(text, characters, true, true),
  trim: (text, characters) => strip(text, characters, true, true),
  lstrip: (text, characters) => strip(text, characters, true, false),
  rstrip: (text, characters) => strip(text, characters, false, true),
  capitalize: (text) => text.charAt(0).toUpperCase() + text.slice(1).toLowerCase(),
}
