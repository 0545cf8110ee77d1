"""Files that others wrote, manifests, and where models and packages lie."""
