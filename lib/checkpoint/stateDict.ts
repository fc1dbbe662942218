/** The tensors of what torch.save was given: a state dict, or a training checkpoint around one. */
import { pickleKind } from './pickle.js'
import type { Refuse } from './tensorFiles.js'
import { PickledTensor } from './torchPickle.js'

/** Where training programs put the state dict (Lightning, DeepSpeed, Megatron), the first that holds tensors. */
const wrappers = ['state_dict', 'model', 'module']
const maxWrappers = 4

/** Tensors by name; whatever else stands beside them is left out. Errors: no dict, no tensor. */
export function stateDictTensors(value: unknown, refuse: Refuse): Map<string, PickledTensor> {
  const cure = 'a file that torch.save(model.state_dict()) wrote'
  if (!(value instanceof Map)) refuse('a state dict', pickleKind(value), cure)
  const tensors = innermost(value as Map<unknown, unknown>, 0)
  if (tensors.size > 0) return tensors
  refuse(`tensors, at the top or under ${wrappers.map((key) => `"${key}"`).join(', ')}`, 'none', cure)
}

/** A wrapped dict goes first: beside it a checkpoint may have tensors of its own, like a loss. */
function innermost(dict: ReadonlyMap<unknown, unknown>, depth: number): Map<string, PickledTensor> {
  for (const key of depth < maxWrappers ? wrappers : []) {
    const inner = dict.get(key)
    const tensors = inner instanceof Map ? innermost(inner as Map<unknown, unknown>, depth + 1) : null
    if (tensors !== null && tensors.size > 0) return tensors
  }
  const tensors = new Map<string, PickledTensor>()
  for (const [name, value] of dict) {
    if (typeof name === 'string' && value instanceof PickledTensor) tensors.set(name, value)
  }
  return tensors
}
