"""Keeps secrets and personal data out of what is written: `redact` for text that is kept, `scan` for a whole folder.

Packages hold counts, ids and small matrices, never text; `scan` proves that of a folder before it leaves the machine.
The classes are those of StarCoder's redaction (bigcode-dataset, pii/): email, IP address, key, password; the patterns
are our own. Where detect-secrets is installed, its detectors for keys run besides.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from drafters.errors import DraftersError
from drafters.io.safe_load import list_files

EMAIL = re.compile(
    r"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![\w-])"
)
IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)")
IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
# Keys that say what they are: each issuer's own prefix.
KEYS = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{30,}|api_org_[A-Za-z0-9]{30,}|sk-(?:proj-|ant-|or-)?[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{36,}"
    r"|github_pat_\w{40,}|glpat-[\w-]{20,}|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{35}|ya29\.[\w-]{20,}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}|wandb_v\d_\w{16,}|pypi-[\w-]{40,}|npm_[A-Za-z0-9]{36}|dckr_pat_[\w-]{20,}"
    r"|(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}|SG\.[\w-]{16,}\.[\w-]{16,}|key-[0-9a-f]{32}"
    r"|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,})"
)
PRIVATE_KEY = re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----[\s\S]*?(?:-----END (?:[A-Z]+ )?PRIVATE KEY-----|\Z)")
# Keys that only their variable's name gives away.
ASSIGNED_KEY = re.compile(
    r"(?i)\b[\w.-]*(?:api[_-]?key|secret(?:[_-]?key)?|access[_-]?(?:key|token)|auth[_-]?token|client[_-]?secret|bearer)"
    r"[\"']?\s*(?:[:=]|=>)\s*(?:bearer\s+)?[\"']?([A-Za-z0-9+/_.=-]{16,})"
)
PASSWORD = re.compile(r"(?i)\b[\w.-]*(?:password|passwd|pwd)[\"']?\s*(?:[:=]|=>)\s*[\"']([^\"'\s]{4,})[\"']")
URL_PASSWORD = re.compile(r"(?<=://)[^/\s:@\"']+:([^/\s@\"']+)(?=@)")
_DULL = re.compile(
    r"(?i)(?:x{4,}|\*{4,}|\.{4,}|your[_-].*|example.*|changeme|none|null|true|false|\$\{.*\}|<.*>|os\.environ.*)"
)

PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("KEY", PRIVATE_KEY),
    ("KEY", KEYS),
    ("PASSWORD", URL_PASSWORD),
    ("PASSWORD", PASSWORD),
    ("KEY", ASSIGNED_KEY),
    ("EMAIL", EMAIL),
    ("IP_ADDRESS", IPV6),
    ("IP_ADDRESS", IPV4),
)
DETECTORS = (
    "AWSKeyDetector", "AzureStorageKeyDetector", "CloudantDetector", "DiscordBotTokenDetector", "GitHubTokenDetector",
    "GitLabTokenDetector", "JwtTokenDetector", "MailchimpDetector", "NpmDetector", "OpenAIDetector", "PypiTokenDetector",
    "SendGridDetector", "SlackDetector", "SquareOAuthDetector", "StripeDetector", "TelegramBotTokenDetector",
    "TwilioKeyDetector",
)  # fmt: skip
KINDS = ("KEY", "PASSWORD", "EMAIL", "IP_ADDRESS")
VOCABULARIES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
)  # a word a line, so issuers' patterns cannot be there whole
BINARY = (".safetensors", ".npy", ".gguf", ".pt")
MAX_LINE = 1 << 16  # detect-secrets reads line by line; a longer one is cut for it, not for the patterns above


class SecretFound(DraftersError):
    """A folder that must not leave this machine."""


@dataclass(frozen=True)
class Finding:
    """Where something private stands. What it is, is not repeated."""

    kind: str  # EMAIL | IP_ADDRESS | KEY | PASSWORD
    start: int
    stop: int


def find(text: str, kinds: tuple[str, ...] = KINDS, detectors: bool = True) -> list[Finding]:
    """All private parts of a text, in order, without overlaps; of overlapping ones the earlier pattern's.

    Args:
        kinds: classes to look for. detectors: ask detect-secrets too, where it is installed (some ms per line).
    """
    taken: list[Finding] = []
    for kind, pattern in PATTERNS:
        if kind not in kinds:
            continue
        for match in pattern.finditer(text):
            group = match.lastindex or 0
            start, stop = match.span(group)
            if _private(kind, match[group]) and all(stop <= other.start or start >= other.stop for other in taken):
                taken.append(Finding(kind, start, stop))
    for start, stop in _detectors(text) if detectors and "KEY" in kinds else ():
        if all(stop <= other.start or start >= other.stop for other in taken):
            taken.append(Finding("KEY", start, stop))
    return sorted(taken, key=lambda finding: finding.start)


def _detectors(text: str) -> Iterator[tuple[int, int]]:
    """Spans that detect-secrets finds, nothing where it is not installed.

    Its detectors by issuer only: those by entropy take every hash for a secret, those by variable name every default.
    """
    try:
        from detect_secrets.core.scan import scan_line
        from detect_secrets.settings import transient_settings
    except ImportError:
        return
    place = 0
    with transient_settings({"plugins_used": [{"name": name} for name in DETECTORS]}):
        for line in text.splitlines(keepends=True):
            for secret in scan_line(line[:MAX_LINE]):
                value = secret.secret_value
                if value and (at := line.find(value)) >= 0:
                    yield place + at, place + at + len(value)
            place += len(line)


def redact(text: str) -> str:
    """``text`` with every private part replaced by ``<KIND>``."""
    pieces, end = [], 0
    for finding in find(text):
        pieces += [text[end : finding.start], f"<{finding.kind}>"]
        end = finding.stop
    return "".join([*pieces, text[end:]])


def scan(folder: Path, allow: Callable[[str], bool] = lambda name: False) -> Iterator[tuple[str, int, str]]:
    """(file name, line, kind) of every secret in the text files of a folder; emails and IP addresses are none.

    A tokenizer's vocabulary or a licence may hold addresses; keys and passwords have no place in any of them.
    Vocabularies and weights are searched by the patterns here alone. ``allow`` names files to leave out.
    """
    for name in list_files(folder):
        if allow(name):
            continue
        text = (folder / name).read_bytes().decode("utf-8" if not name.endswith(BINARY) else "latin-1", "replace")
        if name.endswith(BINARY):
            # By chance a gigabyte of random bytes spells one of these with a probability below 1e-8.
            found = [Finding("KEY", *match.span()) for match in KEYS.finditer(text)]
        else:
            found = find(text, ("KEY", "PASSWORD"), detectors=name not in VOCABULARIES)
        for finding in found:
            yield name, text.count("\n", 0, finding.start) + 1, finding.kind


def require_clean(folder: Path) -> None:
    """Raise SecretFound, naming files and lines but not the secrets, unless `scan` finds nothing."""
    found = list(scan(folder))
    if found:
        places = ", ".join(f"{name}:{line} ({kind.lower()})" for name, line, kind in found[:5])
        raise SecretFound(
            f"{folder.name} holds what looks like a secret: {places}; expected none. Nothing was uploaded: remove it from "
            "the settings or files it came from, revoke it if it is real, and make the package again"
        )


def _private(kind: str, value: str) -> bool:
    """False for what only has the form: versions, loopback and documentation addresses, placeholders."""
    if kind == "IP_ADDRESS":
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            return False
        if address.version == 6 and len([group for group in value.split(":") if group]) < 3:
            return False  # `a::b` is an address too, but in code it is a name in a namespace
        return not (address.is_loopback or address.is_unspecified or address.is_multicast)
    if kind in ("KEY", "PASSWORD"):
        return not _DULL.fullmatch(value)
    return True
