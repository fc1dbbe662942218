// What a reader must hand over to be fuzzed: valid files to start from, and the call that reads one.

export interface FuzzTarget {
  /** "safetensors" */
  name: string
  /** Valid inputs. Each is a folder's files by name; the first one is mutated, the others stand beside it unchanged. */
  seeds(): Promise<Map<string, Uint8Array>[]>
  /** Reads the mutated file as a user's command would. May only resolve, or throw a ThreefoldError that names the place. */
  read(file: string): Promise<unknown>
  /** True where the file is text, or carries text: brackets, quotes and numbers are edited too. */
  text?: boolean
  /** What an error's message has to contain; by default the name of the mutated file. */
  place?(file: string): string
  /** Sets right what would keep readers from the depths of a mutated file, such as a length. Used on half of the files. */
  repair?(bytes: Uint8Array): Uint8Array
}
