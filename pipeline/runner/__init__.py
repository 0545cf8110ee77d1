"""The runner: finds stages, names their outputs by content, makes what is missing, seals what is whole."""
