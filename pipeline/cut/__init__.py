"""A drafter made of a target's own layers: the cut, the target's cached answers to a text, and the training from them."""
