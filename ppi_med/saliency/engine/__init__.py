"""The recorded forward and the rules of relevance; what the methods above rest on.

- `forward`: an ordinary forward in which operations keep a rule; `call`: one of them.
- `primitives`, `roles`, `operations`: detours, signal or gate, names of operations.
- `rules`: Table 1; `activations`, `products`, `normalisation`, `attention`,
  `convolution`: its longer rules.
- `norm_derivatives`: batch and instance normalisation where torch's own backward is wrong.
- `unknown`: what is said where there is no rule.
- `ordinary`, `layer_output`: a forward without rules, for methods that need derivatives.
- `isolation`: a network is left as it was found.
"""
