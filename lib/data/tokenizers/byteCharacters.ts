/** GPT-2's printable character for each byte, so that a vocabulary of bytes is a vocabulary of text. */

function printable(byte: number): boolean {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
}

function makeCharacters(): string[] {
  let next = 256
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++))
}

export const byteCharacters: readonly string[] = makeCharacters()

const byteOfCharacter: ReadonlyMap<string, number> = new Map(byteCharacters.map((character, byte) => [character, byte]))

const encoder = new TextEncoder()

/** "a é" -> "aĠÃ©" */
export function toByteCharacters(text: string): string {
  let out = ''
  for (const byte of encoder.encode(text)) out += byteCharacters[byte]!
  return out
}

/** The bytes a token stands for, or null where a character of it stands for none. */
export function fromByteCharacters(token: string): Uint8Array | null {
  const bytes = new Uint8Array(token.length)
  for (let i = 0; i < token.length; i++) {
    const byte = byteOfCharacter.get(token[i]!)
    if (byte === undefined) return null
    bytes[i] = byte
  }
  return bytes
}
