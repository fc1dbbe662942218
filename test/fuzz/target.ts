// What a reader must hand over to be fuzzed: valid files to start from, and the call that reads one.

export interface FuzzTarget {
  /** "safetensors" */
  name: string
  /** Valid inputs. Each is a folder's files by name; the first one is mutated, the others stand beside it unchanged. */
  seeds(): Promise<Map<string, Uint8Array>[]>
  /** Reads the mutated file as a user's command would. May only resolve, or throw a ThreefoldError that names the place. */
  read(file: string): Promise<unknown>
}
