/** SentencePiece's compiled character map: a double-array trie from UTF-8 bytes to replacements. */
import type { Place } from './place.js'

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const encoder = new TextEncoder()
/** A grapheme of more bytes is replaced character by character. */
const longestGrapheme = 5
/** Keys are a few characters; a broken trie may lead in circles. */
const longestKey = 128
/** Replacements are a few characters too (the longest of Unicode's is 18). */
const longestReplacement = 256

export class PrecompiledMap {
  readonly #units: Uint32Array
  readonly #texts: Uint8Array
  readonly #replacements = new Map<number, string>()
  readonly #fail: (received: string) => never
  #segmenter: Intl.Segmenter | null = null

  /** `bytes`: length of the trie in bytes, the trie, then the replacements, each with a zero byte behind it. */
  constructor(bytes: Uint8Array, place: Place) {
    this.#fail = (received) => place.fail("a character map as SentencePiece's compiler writes it", received)
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const size = bytes.length < 4 ? 0 : view.getUint32(0, true)
    if (size === 0 || size % 4 !== 0 || 4 + size > bytes.length) this.#fail(`${bytes.length} bytes that begin with the length ${size}`)
    this.#units = Uint32Array.from({ length: size / 4 }, (_, i) => view.getUint32(4 + 4 * i, true))
    this.#texts = bytes.subarray(4 + size)
  }

  /** As `tokenizers` applies it: short graphemes first, then characters; the shortest key counts. */
  normalize(text: string): string {
    let out = ''
    let start = 0
    // Two ASCII characters side by side are never one grapheme, but for CR LF.
    for (let i = 1; i <= text.length; i++) {
      const together = i < text.length && (text.charCodeAt(i - 1) > 0x7f || text.charCodeAt(i) > 0x7f || (text[i - 1] === '\r' && text[i] === '\n'))
      if (together) continue
      out += i - start === 1 ? (this.#replacement(text[start]!) ?? text[start]!) : this.#graphemes(text.slice(start, i))
      start = i
    }
    return out
  }

  #graphemes(text: string): string {
    this.#segmenter ??= new Intl.Segmenter('und', { granularity: 'grapheme' })
    let out = ''
    for (const { segment } of this.#segmenter.segment(text)) {
      const whole = Buffer.byteLength(segment) <= longestGrapheme ? this.#replacement(segment) : null
      if (whole !== null) out += whole
      else for (const character of segment) out += this.#replacement(character) ?? character
    }
    return out
  }

  /** As SentencePiece itself applies it: at each place the longest key. */
  normalizeLongest(text: string): string {
    const bytes = encoder.encode(text)
    let out = ''
    let kept = 0
    for (let at = 0; at < bytes.length; ) {
      let end = -1
      let place = -1
      this.#keys(bytes, at, (to, value) => {
        end = to
        place = value
        return true
      })
      if (end < 0) {
        do at++
        while (at < bytes.length && (bytes[at]! & 0xc0) === 0x80)
        continue
      }
      out += decoder.decode(bytes.subarray(kept, at)) + this.#text(place)
      at = end
      kept = end
    }
    return out + decoder.decode(bytes.subarray(kept))
  }

  /** The replacement of the shortest key that the text begins with; null where there is none. */
  #replacement(text: string): string | null {
    let found: number | null = null
    this.#keys(encoder.encode(text), 0, (_, value) => {
      found = value
      return false
    })
    return found === null ? null : this.#text(found)
  }

  /** Calls with end and value of the keys that begin at a place, the shortest first, while it is told to go on. */
  #keys(bytes: Uint8Array, from: number, each: (to: number, value: number) => boolean): void {
    let at = offsetOf(this.#unit(0))
    for (let i = from; i < Math.min(bytes.length, from + longestKey); i++) {
      const byte = bytes[i]!
      if (byte === 0) return
      at ^= byte
      const unit = this.#unit(at)
      if ((unit & 0x800000ff) >>> 0 !== byte) return
      at ^= offsetOf(unit)
      if ((unit & 0x100) !== 0 && !each(i + 1, this.#unit(at) & 0x7fffffff)) return
    }
  }

  #unit(at: number): number {
    return this.#units[at] ?? this.#fail(`a trie that points to place ${at} of ${this.#units.length}`)
  }

  #text(start: number): string {
    let text = this.#replacements.get(start)
    if (text !== undefined) return text
    const end = this.#texts.indexOf(0, start)
    if (start >= this.#texts.length) this.#fail(`a replacement at byte ${start} of ${this.#texts.length}`)
    try {
      text = decoder.decode(this.#texts.subarray(start, end < 0 ? undefined : end))
    } catch {
      this.#fail(`bytes that are no UTF-8 at ${start}`)
    }
    if (text.length > longestReplacement) this.#fail(`a replacement of ${text.length} characters`)
    this.#replacements.set(start, text)
    return text
  }
}

function offsetOf(unit: number): number {
  return (unit >>> 10) << ((unit & 0x200) >>> 6)
}
