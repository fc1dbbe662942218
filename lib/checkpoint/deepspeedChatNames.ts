/**
 * The names of a DeepSpeed-Chat reward model. Its RewardModel holds the backbone (AutoModel, so without the names of a
 * CausalLM around it) under one attribute and the value head under another.
 * Source: DeepSpeedExamples, applications/DeepSpeed-Chat, utils/model/reward_model.py.
 */

/** The attribute's name; the second spelling is the one of the source since 2023. */
const backbones = ['rwtransformer.', 'rwtranrsformer.']
const valueHead = 'v_head.weight'

/**
 * `prefix` is what the family's stock names begin with, which a model without its head leaves out. Gives
 * stock name ("model.layers.0.mlp.up_proj.weight", "score.weight" for the value head) -> stored name, or null where the
 * tensors are not laid out like that. Tensors of neither kind have no stock name, so a loader can list them as surplus.
 */
export function deepspeedChatNames(entries: ReadonlyMap<string, unknown>, prefix = 'model.'): Map<string, string> | null {
  const found = backbones.filter((backbone) => [...entries.keys()].some((name) => name.startsWith(backbone)))
  const [backbone] = found
  if (backbone === undefined || found.length > 1 || !entries.has(valueHead)) return null
  const names = new Map([['score.weight', valueHead]])
  for (const stored of entries.keys()) {
    if (!stored.startsWith(backbone)) continue
    const bare = stored.slice(backbone.length)
    const stock = bare.startsWith(prefix) ? bare : prefix + bare
    // "decoder.x" beside "model.decoder.x": no saying which one counts.
    if (names.has(stock)) return null
    names.set(stock, stored)
  }
  return names
}
