/**
 * The names of a DeepSpeed-Chat reward model. Its RewardModel holds the backbone (AutoModel, so without the names of a
 * CausalLM around it) under one attribute and the value head under another.
 * Source: DeepSpeedExamples, applications/DeepSpeed-Chat, utils/model/reward_model.py.
 */

/** The attribute's name; the second spelling is the one of the source since 2023. */
const backbones = ['rwtransformer.', 'rwtranrsformer.']
const valueHead = 'v_head.weight'

/**
 * Stock name ("model.layers.0.mlp.up_proj.weight", "score.weight" for the value head) -> stored name, or null where the
 * tensors are not laid out like that. Tensors of neither kind have no stock name, so a loader can list them as surplus.
 */
export function deepspeedChatNames(entries: ReadonlyMap<string, unknown>): Map<string, string> | null {
  const prefixes = backbones.filter((prefix) => [...entries.keys()].some((name) => name.startsWith(prefix)))
  const [prefix] = prefixes
  if (prefix === undefined || prefixes.length > 1 || !entries.has(valueHead)) return null
  const names = new Map([['score.weight', valueHead]])
  for (const stored of entries.keys()) {
    if (!stored.startsWith(prefix)) continue
    const bare = stored.slice(prefix.length)
    const stock = bare.startsWith('model.') ? bare : `model.${bare}`
    // "decoder.x" beside "model.decoder.x": no saying which one counts.
    if (names.has(stock)) return null
    names.set(stock, stored)
  }
  return names
}
