"""Regular expressions of pre-tokenizers: their translation to Python's ``re``, and what is proven of their matches."""

import re

SENTINEL = "\0"  # stands where an added token was cut out of the text: no class of a translated pattern contains it
GRAPHIC = r"!-~\w"  # inside a class: characters that are no whitespace under any version of Unicode

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Digits(individual) runs before GPT-2's expression, so a digit ends the piece that the look-ahead sees.
GPT2_AFTER_DIGITS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"

_NOTHING = "\ue000"  # a member of no ASCII text: what an empty class holds
_ASCII = {
    "L": "A-Za-z", "Lu": "A-Z", "Ll": "a-z", "Lt": _NOTHING, "Lm": _NOTHING, "Lo": _NOTHING, "M": _NOTHING,
    "N": "0-9", "P": r"""!"#%&'()*,\-./:;?@\[\\\]_{}""", "S": r"$+<=>\^`|~",
}  # fmt: skip
_SPACE = r"\t-\r "  # Unicode White_Space within ASCII; Python's own \s also takes \x1c-\x1f


class NotLocal(ValueError):
    """The tokenizer is not known to cut text into independent pieces; the message says which part of it is not."""


_ATOM = re.compile(
    r"\\p\{(?P<property>\w+)\}|\\(?P<escape>.)|(?P<open>\[\^?)|(?P<close>\])|(?P<group>\((?:\?(?:i:|:|!|>))?)|(?P<char>.)",
    re.DOTALL,
)


def ascii_pattern(pattern: str) -> str:
    """Translate a pre-tokenizer's regular expression (Oniguruma) to Python's ``re``, equal on ASCII text.

    Classes become explicit ASCII sets, and negated ones also exclude :data:`SENTINEL`, so that no match crosses a place
    where an added token stood and a look-ahead takes it for the end of the text. Both engines are leftmost with ordered
    alternation, so equal classes give equal matches.

    Raises:
        NotLocal: for a construct outside that grammar (anchors, look-behind, other escapes, set operations).
    """
    out, inside = [], False
    for match in _ATOM.finditer(pattern):
        kind, text = match.lastgroup, match.group()
        if kind == "property":
            members = _members(match["property"])
            out.append(members if inside else f"[{members}]")
        elif kind == "escape":
            out.append(_escape(match["escape"], inside))
        elif kind == "open":
            if inside:
                raise NotLocal("nested character class")
            inside = True
            out.append(text + (r"\0" if text == "[^" else ""))
        elif kind == "close":
            inside = False
            out.append(text)
        elif not inside and (text in ("^", "$", ".") or text == "("):
            raise NotLocal(f"{text!r} in the pre-tokenizer's expression")
        elif inside and text in ("&", "["):
            raise NotLocal("set operation in a character class")
        else:
            out.append(text)
    translated = "".join(out)
    _require_cover(re.compile(translated), pattern)
    return translated


_ITEM = re.compile(
    r"(?P<look>\(\?!(?:\\S|\[\^?(?:\\.|[^\]\\])*\])\))|(?P<open>\((?:\?(?:i:|:|>))?(?!\?))|(?P<close>\))|(?P<bar>\|)"
    r"|(?P<many>(?:[*+]|\{\d*,?\d*\})[+?]?)|(?P<once>\?[+?]?)"
    r"|(?P<atom>\[\^?(?:\\.|[^\]\\])*\]|\\p\{\w+\}|\\.|[^()])",
    re.DOTALL,
)


def space_leads(pattern: str) -> bool:
    """Whether ``graphic character | space`` bounds the pattern's matches in any text, neither side seeing the other.

    True if in every alternative nothing that matches a space comes behind something that matches a graphic character,
    and look-aheads, of one character, come behind whitespace only. Sufficient, not necessary: False where unsure.
    """
    graphic = False  # whether an atom of this alternative can match a graphic character
    last = group = (False, False)  # graphic, space: of the last atom, and of the open group
    depth = position = 0
    while position < len(pattern):
        item = _ITEM.match(pattern, position)
        if item is None:
            return False
        position, kind = item.end(), item.lastgroup
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth -= 1
            if depth == 0:  # a group may match many characters in any order
                if group[1] and (graphic or group[0]):
                    return False
                graphic, last, group = graphic or group[0], group, (False, False)
        elif kind == "atom":
            matches = _reach(item.group())
            if depth:
                group = (group[0] or matches[0], group[1] or matches[1])
            elif matches[1] and graphic:
                return False
            else:
                graphic, last = graphic or matches[0], matches
        elif (kind == "many" and not depth and all(last)) or (kind == "look" and (graphic or depth)):
            return False
        elif kind == "bar" and not depth:
            graphic = False
    return True


def _reach(atom: str) -> tuple[bool, bool]:
    """Whether an atom can match a graphic character, and a space."""
    if atom.startswith("[^"):
        return True, not (r"\s" in atom or " " in atom)
    if atom.startswith("["):
        rest = re.sub(r"\\[srnt]| ", "", atom[1:-1])
        return bool(rest), r"\s" in atom or " " in atom
    return atom not in (r"\s", r"\r", r"\n", r"\t", " "), atom in (r"\s", " ", ".")


def _members(name: str) -> str:
    if name not in _ASCII:
        raise NotLocal(rf"property \p{{{name}}}")
    return _ASCII[name]


def _escape(char: str, inside: bool) -> str:
    if char == "s":
        return _SPACE if inside else f"[{_SPACE}]"
    if char == "S" and not inside:
        return rf"[^\0{_SPACE}]"
    if char == "d":
        return "0-9" if inside else "[0-9]"
    if char in "rnt" or not char.isalnum():
        return "\\" + char
    raise NotLocal(rf"escape \{char}")


def _require_cover(pattern: re.Pattern, source: str) -> None:
    """Every ASCII character must start a match whatever follows it: a gap would be a piece that ``findall`` drops."""
    characters = [chr(code) for code in range(1, 128)]
    for first in characters:
        if not all(pattern.match(first + second) for second in ["", SENTINEL, *characters]):
            raise NotLocal(f"{source!r} does not cover {first!r}")
