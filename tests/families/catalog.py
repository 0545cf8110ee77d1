"""The families, one row each."""

from itertools import chain

from tests.families.family import Family
from tests.families.published import alibaba, code, google, meta, microsoft, mistral, older, open_labs, openai

_PUBLISHERS = (meta, alibaba, google, microsoft, mistral, code, open_labs, older, openai)
FAMILIES: dict[str, Family] = {
    family.name: family for family in chain.from_iterable(module.FAMILIES for module in _PUBLISHERS)
}
