/** What the components can be coloured and sorted by. */

/** `sign` times the column is more than zero where the component helps the target. */
export const MEASURES = {
  direct: {
    label: "Direct attribution", column: "direct", sign: 1, ends: ["against the target", "for the target"],
    hint: "What each component adds straight to the target; the parts add up to the model's own number.",
  },
  skip_target: {
    label: "Skip: log-probability of the target", column: "change", sign: -1,
    ends: ["rises without it", "falls without it"],
    hint: "Change of the target's log-probability (nats) when the component is left out at this position only.",
  },
  skip_kl: {
    label: "Skip: KL divergence", column: "kl", sign: 1, ends: ["0", "changes the output"], oneSided: true,
    hint: "KL divergence (nats) from the model's own output to the output without the component at this position.",
  },
};
