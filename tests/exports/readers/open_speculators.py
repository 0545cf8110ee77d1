"""speculators: its trainer's search for maps in a data folder, and its models' check of them. FOLDER SIZE VOCABULARY"""

import argparse
import json
import sys
from importlib import metadata
from types import SimpleNamespace

from speculators.model import DraftVocabMixin
from speculators.train import cli
from torch import nn

folder, size, vocabulary = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
arguments = argparse.Namespace(
    d2t_path=None, t2d_path=None, token_freq_path=None, data_path=folder, draft_vocab_size=size
)
d2t, t2d, found = cli.parse_vocab_mappings(arguments)


class Head(DraftVocabMixin):
    def __init__(self):
        nn.Module.__init__(self)
        layer = SimpleNamespace(vocab_size=vocabulary, hidden_size=8, pad_token_id=None)
        self._init_vocab(SimpleNamespace(transformer_layer_config=layer, draft_vocab_size=size))


head = Head()
head.load_vocab_mappings(t2d, d2t)
ids = [row + int(offset) for row, offset in enumerate(head.d2t)]
print(json.dumps({
    "version": metadata.version("speculators"), "size": found, "ids": ids, "kept": head.t2d.nonzero().flatten().tolist(),
}))  # fmt: skip
