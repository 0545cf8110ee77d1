"""GGUF files as models: proven harmless, converted once into a model folder, and found again."""
