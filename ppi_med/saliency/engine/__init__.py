"""The recorded forward and the rules of relevance, used by the methods.

- `forward`: an ordinary forward in which operations keep a rule; `call`: one of them.
- `primitives`, `roles`, `operations`: detours, signal or gate, names of operations.
- `rules`: Table 1; `activations`, `products`, `normalisation`, `attention`,
  `convolution`: its longer rules.
- `norm_derivatives`: batch and instance normalisation where torch's own backward is wrong.
- `unknown`: the error for an operation without a rule.
- `ordinary`, `layer_output`: a forward without rules, for methods that need derivatives.
- `isolation`: a network is restored after a pass.
"""
