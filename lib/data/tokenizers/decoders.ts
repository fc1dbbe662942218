/**
 * "decoder" of a tokenizer.json: tokens -> text. Every decoder works token by token, so that printing an answer while it
 * grows and decoding it at once are the same code: text leaves as soon as no later token can change it.
 */
import { fromByteCharacters } from './byteCharacters.js'
import { readPattern } from './pattern.js'
import type { Place } from './place.js'

const encoder = new TextEncoder()
const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Where decoded text goes. */
export interface TextSink {
  /** A whole token. `added` where it is one of the added tokens: these stand for their own text. */
  token(text: string, added: boolean): void
  /** A part of the one token that everything was joined to. */
  part(text: string): void
  end(): void
}

export type MakeDecoder = (next: TextSink) => TextSink

/** A step that changes whole tokens; parts of a joined one are kept until it is complete. */
abstract class Step implements TextSink {
  #joined: string | null = null

  constructor(protected readonly next: TextSink) {}

  abstract token(text: string, added: boolean): void

  part(text: string): void {
    this.#joined = (this.#joined ?? '') + text
  }

  end(): void {
    if (this.#joined !== null) this.token(this.#joined, false)
    this.#joined = null
    this.finish()
    this.next.end()
  }

  protected finish(): void {}
}

/** Changes each token by itself; the first one perhaps differently. */
class EachToken extends Step {
  #first = true

  constructor(
    next: TextSink,
    private readonly change: (text: string, first: boolean) => string,
  ) {
    super(next)
  }

  token(text: string, added: boolean): void {
    this.next.token(this.change(text, this.#first), added)
    this.#first = false
  }
}

class Fuse implements TextSink {
  constructor(private readonly next: TextSink) {}

  token(text: string): void {
    this.next.part(text)
  }

  part(text: string): void {
    this.next.part(text)
  }

  end(): void {
    this.next.end()
  }
}

/** GPT-2's characters back to bytes, bytes to text; bytes that are no UTF-8 become U+FFFD. */
class ByteLevel extends Step {
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true })

  token(text: string, added: boolean): void {
    // A token with another character is text as it stands.
    const bytes = (added ? null : fromByteCharacters(text)) ?? encoder.encode(text)
    this.next.part(this.#decoder.decode(bytes, { stream: true }))
  }

  protected override finish(): void {
    this.next.part(this.#decoder.decode())
  }
}

/** <0xE4> <0xBD> <0xA0> -> one character. A run of bytes is text as a whole, or each of them is U+FFFD. */
class ByteFallback extends Step {
  #bytes: number[] = []

  token(text: string, added: boolean): void {
    const byte = /^<0x([0-9a-fA-F]{2}|\+[0-9a-fA-F])>$/.exec(text)
    if (byte !== null) {
      this.#bytes.push(parseInt(byte[1]!, 16))
      return
    }
    this.finish()
    this.next.token(text, added)
  }

  protected override finish(): void {
    if (this.#bytes.length === 0) return
    const bytes = Uint8Array.from(this.#bytes)
    this.#bytes = []
    try {
      this.next.token(strict.decode(bytes), false)
    } catch {
      for (let i = 0; i < bytes.length; i++) this.next.token('\ufffd', false)
    }
  }
}

/** Takes up to `start` and `stop` of one character off the ends of each token. */
class Strip extends Step {
  /** How much may still go from the start of the joined token. */
  #left: number
  /** What may still go from its end. */
  #held = ''

  constructor(
    next: TextSink,
    private readonly content: string,
    start: number,
    private readonly stop: number,
  ) {
    super(next)
    this.start = start
    this.#left = start
  }

  private readonly start: number

  token(text: string, added: boolean): void {
    let from = 0
    for (let i = 0; i < this.start && text.startsWith(this.content, from); i++) from += this.content.length
    let to = text.length
    for (let i = 0; i < this.stop && to > from && text.endsWith(this.content, to); i++) to -= this.content.length
    this.next.token(text.slice(from, to), added)
  }

  override part(text: string): void {
    let from = 0
    while (this.#left > 0 && from < text.length && text.startsWith(this.content, from)) {
      from += this.content.length
      this.#left--
    }
    if (from < text.length) this.#left = 0
    const whole = this.#held + text.slice(from)
    let keep = whole.length
    for (let i = 0; i < this.stop && whole.slice(0, keep).endsWith(this.content); i++) keep -= this.content.length
    this.#held = whole.slice(keep)
    this.next.part(whole.slice(0, keep))
  }

  override end(): void {
    this.#held = ''
    this.next.end()
  }
}

/** A suffix marks the end of a word: a space, but at the very end. */
class SuffixDecoder extends Step {
  #held: { text: string; added: boolean } | null = null

  constructor(
    next: TextSink,
    private readonly suffix: string,
  ) {
    super(next)
  }

  token(text: string, added: boolean): void {
    if (this.#held !== null) this.next.token(this.#held.text.replaceAll(this.suffix, ' '), this.#held.added)
    this.#held = { text, added }
  }

  protected override finish(): void {
    if (this.#held !== null) this.next.token(this.#held.text.replaceAll(this.suffix, ''), this.#held.added)
    this.#held = null
  }
}

/** Speech models: neighbours that are equal are one. */
class Ctc extends Step {
  #last: string | null = null

  constructor(
    next: TextSink,
    private readonly pad: string,
    private readonly delimiter: string,
    private readonly cleanup: boolean,
  ) {
    super(next)
  }

  token(text: string, added: boolean): void {
    if (text === this.#last) return
    this.#last = text
    const bare = text.replaceAll(this.pad, '')
    const clean = this.cleanup ? cleanUp(bare).replaceAll(this.delimiter, ' ') : bare
    if (clean !== '') this.next.token(clean, added)
  }
}

/** Tokens with a space between, where a tokenizer has no decoder. */
class Spaced extends Step {
  #first = true

  token(text: string, added: boolean): void {
    this.next.token(this.#first ? text : ` ${text}`, added)
    this.#first = false
  }
}

/** English spacing, token by token, as the WordPiece decoder does it. */
function cleanUp(text: string): string {
  const pairs = [
    [' .', '.'],
    [' ?', '?'],
    [' !', '!'],
    [' ,', ','],
    [" ' ", "'"],
    [" n't", "n't"],
    [" 'm", "'m"],
    [' do not', " don't"],
    [" 's", "'s"],
    [" 've", "'ve"],
    [" 're", "'re"],
  ] as const
  return pairs.reduce((current, [from, to]) => current.replaceAll(from, to), text)
}

/** Errors name the field. */
export function readDecoder(place: Place): MakeDecoder {
  if (place.isMissing) return (next) => new Spaced(next)
  const type = place.field('type').string()
  switch (type) {
    case 'Sequence': {
      const makers = place.field('decoders').items().map(readDecoder)
      return (next) => makers.reduceRight((after, make) => make(after), next)
    }
    case 'ByteLevel':
      return (next) => new ByteLevel(next)
    case 'ByteFallback':
      return (next) => new ByteFallback(next)
    case 'Fuse':
      return (next) => new Fuse(next)
    case 'Replace': {
      const pattern = readPattern(place.field('pattern'))
      const content = place.field('content').string()
      return (next) => new EachToken(next, (text) => pattern.replace(text, content))
    }
    case 'Strip': {
      const content = place.field('content').characterOr(' ')
      const [start, stop] = [place.field('start').countOr(0), place.field('stop').countOr(0)]
      return (next) => new Strip(next, content, start, stop)
    }
    case 'Metaspace': {
      const mark = place.field('replacement').characterOr('▁')
      const old = place.field('add_prefix_space').booleanOr(true)
      const never = place.field('prepend_scheme').stringOr(old ? 'always' : 'never') === 'never'
      return (next) => new EachToken(next, (text, first) => text.replaceAll(mark, first && !never ? '' : ' '))
    }
    case 'WordPiece': {
      const prefix = place.field('prefix').stringOr('##')
      const cleanup = place.field('cleanup').booleanOr(true)
      return (next) =>
        new EachToken(next, (text, first) => {
          const joined = first ? text : text.startsWith(prefix) ? text.slice(prefix.length) : ` ${text}`
          return cleanup ? cleanUp(joined) : joined
        })
    }
    case 'BPEDecoder': {
      const suffix = place.field('suffix').stringOr('</w>')
      if (suffix === '') place.field('suffix').fail('a suffix')
      return (next) => new SuffixDecoder(next, suffix)
    }
    case 'CTC': {
      const [pad, delimiter] = [place.field('pad_token').stringOr('<pad>'), place.field('word_delimiter_token').stringOr('|')]
      if (pad === '' || delimiter === '') place.fail('a pad_token and a word_delimiter_token')
      const cleanup = place.field('cleanup').booleanOr(true)
      return (next) => new Ctc(next, pad, delimiter, cleanup)
    }
  }
  return place.field('type').fail('a decoder that is known')
}
