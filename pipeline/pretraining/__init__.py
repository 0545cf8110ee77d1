"""How the embedded models in `drafters/zoo` are made: tokenizers, packed text, training, distillation, measurement."""
