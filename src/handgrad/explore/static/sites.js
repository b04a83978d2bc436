/** How the sites of a model hang together: what each is computed from. */

export const isPre = (model) => model.config.norm_placement === "pre";
export const layerOf = (name) => (name.startsWith("blocks.") ? Number(name.split(".")[1]) : null);
/** Without its block: "attention.probs". */
export const partOf = (name) => (name.startsWith("blocks.") ? name.split(".").slice(2).join(".") : name);
export const siteOf = (model, name) => model.sites.find((site) => site.name === name);
/** Whether it stands on the residual stream itself. */
export const onSpine = (model, name) => model.stream.includes(name) || ["embedding", "positions", "norm", "logits"].includes(name)
  || (!isPre(model) && /residual|norm[12]$/.test(name) && !/query|key/.test(name));

export function inputs(model, name) {
  const has = (each) => model.sites.some((site) => site.name === each);
  const layer = layerOf(name), part = partOf(name), at = `blocks.${layer}.`;
  const end = model.stream.at(-1);
  if (part === "embedding") return [];
  if (part === "positions") return ["embedding"];
  if (part === "norm") return [end];
  if (part === "logits") return [has("norm") ? "norm" : end];
  const pre = isPre(model);
  const before = layer === 0 ? model.stream[0] : `blocks.${layer - 1}.${pre ? "residual2" : "norm2"}`;
  const toAttention = pre ? `${at}norm1` : before, toFeedForward = pre ? `${at}norm2` : `${at}norm1`;
  const lastOf = (which) => [`${which}_turn`, `${which}_norm`, which].map((x) => `${at}attention.${x}`).find(has);
  const of = {
    norm1: [pre ? before : `${at}residual1`], norm2: [pre ? `${at}residual1` : `${at}residual2`],
    "attention.query": [toAttention], "attention.key": [toAttention], "attention.value": [toAttention],
    "attention.query_norm": [`${at}attention.query`], "attention.key_norm": [`${at}attention.key`],
    "attention.query_turn": [`${at}attention.query_norm`, `${at}attention.query`].filter(has).slice(0, 1),
    "attention.key_turn": [`${at}attention.key_norm`, `${at}attention.key`].filter(has).slice(0, 1),
    "attention.scores": [lastOf("query"), lastOf("key")], "attention.probs": [`${at}attention.scores`],
    "attention.heads": [`${at}attention.probs`, `${at}attention.value`], "attention.output": [`${at}attention.heads`],
    residual1: [before, `${at}attention.output`],
    "feed_forward.up": [toFeedForward], "feed_forward.gate": [toFeedForward],
    "feed_forward.hidden": [`${at}feed_forward.up`, `${at}feed_forward.gate`].filter(has),
    "feed_forward.down": [`${at}feed_forward.hidden`],
    residual2: [pre ? `${at}residual1` : `${at}norm1`, `${at}feed_forward.down`],
  };
  return of[part] ?? [];
}

export const outputs = (model, name) => model.sites.map((site) => site.name).filter((each) => inputs(model, each).includes(name));
