"""What one family publishes: the facts of its folders that matter to a reader, without its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Json = Mapping[str, object]


@dataclass(frozen=True)
class TokenizerKind:
    """How a family's ``tokenizer.json`` is made. Its ordinary tokens are learnt from a text, its added ones are named."""

    # Of a byte-level one: the regular expression that splits text, "gpt2" for the built-in one. None: SentencePiece's.
    pattern: str | None
    first: tuple[str, ...] = ()  # special tokens below all others
    last: tuple[str, ...] = ()  # special tokens above all others
    ordinary: tuple[str, ...] = ()  # of both, those that are added but not special
    template: tuple[str, ...] = ()  # what the post-processor writes around a text, "$A"; empty: nothing
    digits: bool = False  # every digit by itself, before all else
    nfc: bool = False
    prefix: bool = False  # SentencePiece: a space is put before every text, as in Llama 2; Gemma's has none
    ignore_merges: bool = False
    unk: str | None = None
    learnt: int = 220  # tokens beside the bytes and those that are named
    rstrip: bool = False  # special tokens swallow the space after them, as Phi-3's


@dataclass(frozen=True)
class Published:
    """One model's folder. Where a value of a key ``..._token_id`` is a token, its id is written."""

    id: str  # as on the Hub; nothing is fetched
    config: Json
    kind: TokenizerKind
    tokenizer: Json  # of tokenizer_config.json
    generation: Json | None = None
    template: str | None = None  # the chat template
    padding: int = 0  # rows of the model that no token has
    dtype: str = "bfloat16"  # of its weights
    sharded: bool = False
    decoder: bool = True  # tokenizer_config.json lists the added tokens
    files: tuple[str, ...] = ("tokenizer.json",)  # of the tokenizer; also vocab.json, merges.txt, tokenizer.model


@dataclass(frozen=True)
class Family:
    """A pair as people make it. ``expected``: step of the walk -> what its refusal must say; all others succeed."""

    name: str
    target: Published
    drafter: Published
    expected: Mapping[str, str] = field(default_factory=dict)
    unset: tuple[str, ...] = ()  # settings of the target's generation config that doctor asks to unset
    lacks: str = ""  # a library whose absence the refusal is about
